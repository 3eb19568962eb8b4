"""Early stopping of an infinite-width phase whose synsets real students cannot follow.

Students of finite width leave the infinite-width limit when the synset asks for large changes of
their weights. The objective in the limit then falls although cloned students become worse. The
guard therefore checks real students at intervals (:mod:`obdbench.distillation.student_check`). The
infinite-width phase of a seed ends if both measures exceed their minimum by ``guard_max_rise`` in
``guard_patience`` consecutive checks. The seed continues with the synset of its lowest missed
variance, and the outer steps that its phase had left are skipped. A guard that ends no phase
changes nothing; without infinite-width steps it only measures.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.snapshot import DistillationState
from obdbench.distillation.student_check import GuardState, StudentCheck, StudentEvaluator


class StudentGuard:
    """Checks the students of all seeds of a distillation and ends infinite-width phases."""

    def __init__(
        self, evaluator: StudentEvaluator, state: DistillationState, seeds: Sequence[int]
    ) -> None:
        assert state.guard is not None
        self.evaluator, self.state, self.seeds = evaluator, state, seeds
        self.guard: GuardState = state.guard

    def check(self) -> None:
        """Check every active seed if a check is due, and end phases accordingly.

        If no seed is left in the infinite-width phase, the outer steps until its end are skipped.
        At its end, seeds that left it early get back their best synset and their generators.
        """
        started = time.perf_counter()
        state, settings = self.state, self.evaluator.settings
        if self._is_due() and state.step < settings.kernel_steps:
            for index in state.active_seeds:
                self._check_seed(index)
            if not state.active_seeds:
                state.step = settings.kernel_steps
        if state.step >= settings.kernel_steps:
            self._restore_ended_seeds()
            if self._is_due():
                for index in range(len(self.seeds)):
                    self._check_seed(index)
        state.seconds += time.perf_counter() - started

    def _is_due(self) -> bool:
        step, settings = self.state.step, self.evaluator.settings
        return step % settings.guard_interval == 0 or step == settings.steps

    def _check_seed(self, index: int) -> None:
        """Add a check of one seed, update its best synset, and end its phase if necessary."""
        state, guard = self.state, self.guard
        checks = guard.checks[index]
        if checks and checks[-1].step == state.step:
            return  # the snapshot was saved after this check
        x, a = state.states[index], state.actions[index]
        checks.append(self.evaluator.check(x, a, self.seeds[index], state.step))
        if state.step >= self.evaluator.settings.kernel_steps:
            return
        if checks[-1].missed_variance <= min(check.missed_variance for check in checks):
            guard.best_states[index].copy_(x)
            guard.best_actions[index].copy_(a)
        if phase_should_end(checks, self.evaluator.settings):
            guard.ended[index] = state.step
            for stream, generators in state.generators.items():
                guard.generators[stream, index] = generators[index].get_state()

    def _restore_ended_seeds(self) -> None:
        for (stream, index), generator_state in self.guard.generators.items():
            self.state.generators[stream][index].set_state(generator_state)
            self.state.states[index], self.state.actions[index] = self.state.best_of(index)
        self.guard.generators.clear()


def phase_should_end(checks: list[StudentCheck], settings: DistillSettings) -> bool:
    """Whether the last ``guard_patience`` checks exceed the earlier minimum of both measures."""
    patience, max_rise = settings.guard_patience, settings.guard_max_rise
    if len(checks) <= patience:
        return False
    earlier, recent = checks[:-patience], checks[-patience:]
    return (
        min(check.missed_variance for check in recent)
        > min(check.missed_variance for check in earlier) + max_rise
    ) and (
        min(check.missed_objective for check in recent)
        > min(check.missed_objective for check in earlier) + max_rise
    )
