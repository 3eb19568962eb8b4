"""The outer loop of a distillation, for all of its seeds at once.

Every outer step draws policies, a batch of dataset states and, where the settings ask for it,
noise, from generators that belong to the seed; it differentiates the objective with respect to the
synset and updates the synset. Seeds distilled together therefore equal seeds distilled alone up to
the rounding of batched matrix products. An interrupted run resumes from its snapshot
(:mod:`obdbench.distillation.snapshot`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.initialization import select_initial_pairs
from obdbench.distillation.input_checks import check_compatible, check_inputs
from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.outer_optimizer import OuterOptimizer
from obdbench.distillation.outer_step import OuterStep
from obdbench.distillation.random_streams import BATCH_STREAM, NOISE_STREAM, POLICY_STREAM
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.snapshot import (
    DistillationState,
    load_snapshot,
    save_snapshot,
    snapshot_identity,
)
from obdbench.distillation.state_sources.state_source import make_state_source
from obdbench.distillation.student_check import GuardState, StudentCheck, StudentEvaluator
from obdbench.distillation.student_guard import StudentGuard
from obdbench.distillation.synset import Synset
from obdbench.errors import ObdError
from obdbench.objectives.objective import Objective
from obdbench.policies.networks import seeded_generator
from obdbench.policies.torch_settings import matmul_precision
from obdbench.teachers.teacher import Teacher

LOSS_CURVE_POINTS = 200


@dataclass(frozen=True)
class Progress:
    """The outer step that a distillation has reached, its mean objective and its speed.

    ``missed_variance`` is the mean of the latest checks of real students, if there are any.
    """

    step: int
    steps: int
    loss: float
    steps_per_second: float
    missed_variance: float | None = None


@dataclass(frozen=True)
class EvaluationPoint:
    """The synsets of all seeds at one outer step, and the loss curves and seconds until then.

    ``checks`` holds the checks of real students until then, one list per seed, and ``ended`` the
    step at which they ended the infinite-width phase of a seed, by its index.
    """

    step: int
    synsets: list[Synset]
    losses: list[list[tuple[int, float]]]
    seconds: float
    checks: list[list[StudentCheck]] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)


def distill_points(
    dataset: Dataset,
    teacher: Teacher | None,
    objective: Objective,
    settings: DistillSettings,
    seeds: Sequence[int],
    *,
    snapshot: Path | None = None,
    snapshot_seconds: float = 60.0,
    progress: Callable[[Progress], None] | None = None,
    progress_seconds: float = 0.2,
    device: str = "cpu",
    memory: int = DEFAULT_MEMORY_BYTES,
    dtype: torch.dtype = torch.float32,
) -> Iterator[EvaluationPoint]:
    """Distill all seeds and yield their synsets at every evaluation step.

    Evaluation points that the snapshot holds are yielded first, without being computed again. If
    ``settings.guard_interval`` is set, real students are checked at intervals, and the
    infinite-width phase of a seed ends early if they become worse
    (:mod:`obdbench.distillation.student_guard`).
    """
    check_compatible([objective], [settings])
    check_inputs(objective, settings, dataset, teacher)
    state = initial_state(dataset, teacher, objective, settings, seeds, device, dtype)
    state.identity = snapshot_identity(dataset, teacher, objective, settings, seeds)
    if settings.guard_interval:
        synsets = (state.states.clone(), state.actions.clone())
        state.guard = GuardState(*synsets, checks=[[] for _ in seeds])

    def point_at(step: int) -> EvaluationPoint:
        return evaluation_point(state, step, dataset, objective, settings, seeds)

    if not objective.distills:
        state.points[0] = (state.states.cpu(), state.actions.cpu(), 0.0)
        yield point_at(0)
        return
    source = make_state_source(dataset, teacher, settings)
    state.source_card = source.card()
    evaluation_steps = set(settings.evaluation_steps)
    if snapshot is not None:
        load_snapshot(state, snapshot)
        _check_evaluation_steps(state, evaluation_steps, snapshot)
    yield from map(point_at, sorted(state.points.keys() & evaluation_steps))
    if max(evaluation_steps) in state.points:
        return
    take_outer_step = OuterStep(
        source,
        teacher,
        objective,
        settings,
        state,
        seeds,
        device=device,
        memory=memory,
        dtype=dtype,
    )
    guard = None
    if settings.guard_interval:
        columns = take_outer_step.sampler.columns
        evaluator = StudentEvaluator(dataset, teacher, objective, columns, settings)
        guard = StudentGuard(evaluator, state, seeds)
    loop = _OuterLoop(state, settings, snapshot, snapshot_seconds, progress, progress_seconds)
    for step in loop.run(take_outer_step, guard):
        yield point_at(step)


class _OuterLoop:
    """Takes outer steps; saves snapshots and reports progress at intervals."""

    def __init__(
        self,
        state: DistillationState,
        settings: DistillSettings,
        snapshot: Path | None,
        snapshot_seconds: float,
        progress: Callable[[Progress], None] | None,
        progress_seconds: float,
    ) -> None:
        self.state, self.settings = state, settings
        self.snapshot, self.snapshot_seconds = snapshot, snapshot_seconds
        self.progress, self.progress_seconds = progress, progress_seconds
        self.saved = self.reported = time.monotonic()
        self.unreported_steps = 0  # the guard can skip steps, so they are counted

    def run(self, take_outer_step: OuterStep, guard: StudentGuard | None) -> Iterator[int]:
        """Yield evaluation steps, whose synsets are then in the state."""
        state, settings = self.state, self.settings
        while True:
            if guard is not None:
                guard.check()
            reached = [step for step in settings.evaluation_steps if step <= state.step]
            new = [step for step in reached if step not in state.points]  # several after a skip
            if new:
                state.points.update({step: (*state.synsets(), state.seconds) for step in new})
                self._save()
                paused = time.monotonic()
                yield from new
                self.reported += time.monotonic() - paused  # scoring is no part of the rate
            if state.step >= max(settings.evaluation_steps):
                return
            started = time.perf_counter()
            with matmul_precision("float32"):  # whatever the caller has set; the sweep may lower it
                losses = take_outer_step()
            self._record(losses, started)
            if time.monotonic() - self.saved >= self.snapshot_seconds:
                self._save()

    def _record(self, losses: Tensor, started: float) -> None:
        """Count the step and its seconds, add to the loss curves, and report if that is due.

        Reading the losses waits for the device, so only steps of the loss curve or with a report do
        it.
        """
        state = self.state
        in_curve = state.step % max(1, self.settings.steps // LOSS_CURVE_POINTS) == 0
        is_due = time.monotonic() - self.reported >= self.progress_seconds
        is_last = state.step + 1 == self.settings.steps
        is_reported = self.progress is not None and (is_due or is_last)
        values = losses.tolist() if in_curve or is_reported else []
        if in_curve:
            for index in state.active_seeds:
                state.losses[index].append((state.step, values[index]))
        state.step += 1
        self.unreported_steps += 1
        state.seconds += time.perf_counter() - started
        if is_reported:
            self._report([values[index] for index in state.active_seeds])

    def _report(self, losses: list[float]) -> None:
        """Report the mean loss, and the rate since the last report."""
        state, now = self.state, time.monotonic()
        rate = self.unreported_steps / max(now - self.reported, 1e-9)
        self.reported, self.unreported_steps = now, 0
        mean_loss = sum(losses) / len(losses) if losses else math.nan
        missed = None if state.guard is None else state.guard.missed_variance()
        assert self.progress is not None
        self.progress(Progress(state.step, self.settings.steps, mean_loss, rate, missed))

    def _save(self) -> None:
        if self.snapshot is not None:
            save_snapshot(self.state, self.snapshot)
            self.saved = time.monotonic()


def initial_state(
    dataset: Dataset,
    teacher: Teacher | None,
    objective: Objective,
    settings: DistillSettings,
    seeds: Sequence[int],
    device: str,
    dtype: torch.dtype,
) -> DistillationState:
    """Return the state before the first step: the initial synsets and fresh generators."""
    rngs = [np.random.default_rng([seed, 0]) for seed in seeds]
    pairs = select_initial_pairs(objective, settings, dataset, teacher, rngs)
    states, actions = (
        torch.from_numpy(np.stack(arrays)).to(device, dtype) for arrays in zip(*pairs, strict=True)
    )
    generators = {
        stream: [seeded_generator(seed, stream) for seed in seeds]
        for stream in (POLICY_STREAM, BATCH_STREAM, NOISE_STREAM)
    }
    losses: list[list[tuple[int, float]]] = [[] for _ in seeds]
    return DistillationState(
        states,
        actions,
        OuterOptimizer(settings),
        generators,
        losses=losses,
        added_states=[{} for _ in seeds],
    )


def _check_evaluation_steps(
    state: DistillationState, evaluation_steps: set[int], snapshot: Path
) -> None:
    """Raise an error if the snapshot has passed an evaluation step whose synset it lacks."""
    missing = sorted(s for s in evaluation_steps - state.points.keys() if s < state.step)
    if missing:
        raise ObdError(
            f"The snapshot {snapshot} is at step {state.step} and contains no synset of step "
            f"{missing[0]}.",
            "Ask for the evaluation points of the first run, or remove the snapshot to start "
            "again.",
        )


def evaluation_point(
    state: DistillationState,
    step: int,
    dataset: Dataset,
    objective: Objective,
    settings: DistillSettings,
    seeds: Sequence[int],
) -> EvaluationPoint:
    """Return the synsets that the state holds for an evaluation step, with their cards."""
    states, actions, seconds = state.points[step]
    card = {
        "dataset": dataset.id,
        "dataset_checksum": dataset.checksum,
        "objective": objective.name,
        "objective_params": objective.settings(),
        "settings": settings.model_dump(mode="json"),
        "step": step,
        **state.source_card,
    }
    checks = [] if state.guard is None else state.guard.checks
    checks = [[check for check in seed_checks if check.step <= step] for seed_checks in checks]
    ended = {} if state.guard is None else state.guard.ended
    ended = {index: end for index, end in ended.items() if end <= step}
    check_cards = [
        {
            "student_checks": [check.as_json() for check in seed_checks],
            "infinite_width_ended_at": ended.get(index),
        }
        for index, seed_checks in enumerate(checks)
    ]
    synsets = [
        Synset(
            states=states[i].float().numpy(),
            actions=actions[i].float().numpy(),
            standardizer=dataset.standardizer,
            task=dataset.task,
            card={**card, "seed": seed, **(check_cards[i] if checks else {})},
        )
        for i, seed in enumerate(seeds)
    ]
    losses = [[entry for entry in curve if entry[0] < step] for curve in state.losses]
    return EvaluationPoint(step, synsets, losses, seconds, checks, ended)
