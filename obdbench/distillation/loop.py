"""The outer loop of a distillation, for all of its seeds at once.

Every outer step draws policies, a batch of dataset states and, where the settings ask for it,
noise, from generators that belong to the seed; it differentiates the objective with respect to the
synset and updates the synset. Seeds distilled together therefore equal seeds distilled alone up to
the rounding of batched matrix products. An interrupted run resumes from its snapshot
(:mod:`obdbench.distillation.snapshot`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.compatibility import check_compatible
from obdbench.distillation.initialization import select_initial_pairs
from obdbench.distillation.input_checks import check_inputs
from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.outer_optimizer import OuterOptimizer
from obdbench.distillation.outer_step import OuterStep
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.snapshot import (
    BATCH_STREAM,
    NOISE_STREAM,
    POLICY_STREAM,
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
from obdbench.policies.matmul_precision import matmul_precision
from obdbench.policies.networks import seeded_generator
from obdbench.teachers.teacher import Teacher

LOSS_CURVE_POINTS = 200
RATE_WINDOW = 20  # outer steps over which the rate that progress shows is taken


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
    step_seconds: float
    checks: list[list[StudentCheck]] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)


@dataclass
class _Interval:
    """A number of seconds after which something is due again."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def is_over(self) -> bool:
        return time.monotonic() - self.started >= self.seconds

    def restart(self) -> None:
        self.started = time.monotonic()


@dataclass
class _Observers:
    """Saves snapshots and reports progress at intervals."""

    state: DistillationState
    settings: DistillSettings
    snapshot: Path | None
    since_snapshot: _Interval
    progress: Callable[[Progress], None] | None
    since_progress: _Interval

    def save(self) -> None:
        if self.snapshot is not None:
            save_snapshot(self.state, self.snapshot)
            self.since_snapshot.restart()

    def is_report_due(self) -> bool:
        """Whether to report the step that is being taken."""
        is_last = self.state.step + 1 == self.settings.steps
        return self.progress is not None and (self.since_progress.is_over() or is_last)

    def after_step(self, mean_loss: float | None) -> None:
        """Report the step if its loss is given, and save a snapshot if one is due."""
        state = self.state
        if self.progress is not None and mean_loss is not None:
            self.since_progress.restart()
            rate = 1.0 / max(statistics.median(state.durations[-RATE_WINDOW:]), 1e-9)
            missed = None if state.guard is None else state.guard.missed_variance()
            self.progress(Progress(state.step, self.settings.steps, mean_loss, rate, missed))
        if self.since_snapshot.is_over():
            self.save()


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
    if snapshot is not None and snapshot.exists():
        load_snapshot(state, snapshot)
        _check_evaluation_steps(state, evaluation_steps, snapshot)
    yield from map(point_at, sorted(state.points.keys() & evaluation_steps))
    last_step = max(evaluation_steps)
    if last_step in state.points:
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
    student_guard = None
    if settings.guard_interval:
        columns = take_outer_step.sampler.columns
        evaluator = StudentEvaluator(dataset, teacher, objective, columns, settings)
        student_guard = StudentGuard(evaluator, state, seeds)
    observers = _Observers(
        state,
        settings,
        snapshot,
        _Interval(snapshot_seconds),
        progress,
        _Interval(progress_seconds),
    )
    for step in _run_to(last_step, take_outer_step, student_guard, observers):
        yield point_at(step)


def _run_to(
    last_step: int,
    take_outer_step: OuterStep,
    student_guard: StudentGuard | None,
    observers: _Observers,
) -> Iterator[int]:
    """Take outer steps and yield evaluation steps, whose synsets are then in the state."""
    state, settings = observers.state, observers.settings
    while True:
        if student_guard is not None:
            student_guard.check()
        reached = [s for s in settings.evaluation_steps if s <= state.step]
        if new := [step for step in reached if step not in state.points]:  # several after a skip
            state.points.update({step: (*state.synsets(), state.seconds) for step in new})
            observers.save()
            yield from new
        if state.step >= last_step:
            return
        started = time.perf_counter()
        with matmul_precision("float32"):  # whatever the caller has set; the sweep may lower it
            losses = take_outer_step()
        wait = observers.is_report_due()
        mean_loss = _record_step(state, losses, settings, started, wait=wait)
        observers.after_step(mean_loss if wait else None)


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


def _record_step(
    state: DistillationState,
    losses: Tensor,
    settings: DistillSettings,
    started: float,
    *,
    wait: bool,
) -> float:
    """Count the step and its seconds; return the mean loss if ``wait``, otherwise NaN.

    Reading the losses waits for the device, so only steps of the loss curve or those with ``wait``
    do it.
    """
    in_curve = state.step % max(1, settings.steps // LOSS_CURVE_POINTS) == 0
    values = losses.tolist() if in_curve or wait else []
    if in_curve:
        for index in state.active_seeds:
            state.losses[index].append((state.step, values[index]))
    state.step += 1
    state.durations.append(time.perf_counter() - started)
    state.seconds += state.durations[-1]
    active = [values[index] for index in state.active_seeds] if values else []
    return sum(active) / len(active) if active else float("nan")


def _check_card(checks: list[StudentCheck], ended: int | None) -> dict[str, Any]:
    """Return the entries of a synset's card that record the checks of its students."""
    return {"student_checks": [c.as_json() for c in checks], "infinite_width_ended_at": ended}


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
    synsets = [
        Synset(
            states=states[i].float().numpy(),
            actions=actions[i].float().numpy(),
            standardizer=dataset.standardizer,
            task=dataset.task,
            card={**card, "seed": seed, **_check_card(checks[i], ended.get(i))}
            if checks
            else {**card, "seed": seed},
        )
        for i, seed in enumerate(seeds)
    ]
    losses = [[entry for entry in curve if entry[0] < step] for curve in state.losses]
    step_seconds = statistics.median(state.durations) if state.durations else 0.0
    return EvaluationPoint(step, synsets, losses, seconds, step_seconds, checks, ended)
