r"""The outer loop: all seeds of a distillation in one program.

Each outer step draws, for every seed, fresh policies, a batch of dataset states and (where asked
for) noise, each from that seed's own generators; takes the meta-gradient of the objective; and
moves the seed's synset. A batch of seeds is therefore the same as single runs, up to the rounding
of batched products.

With a snapshot an interrupted run goes on (:mod:`obdbench.distillation.snapshot`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.batch_sampler import BatchSampler, repeated
from obdbench.distillation.initialization import select_initial_pairs
from obdbench.distillation.matmul_precision import matmul_precision
from obdbench.distillation.meta_gradient.outer_gradient import OuterLossOnStates
from obdbench.distillation.outer_optimizer import OuterOptimizer
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.snapshot import BATCHES, NOISE, POLICIES, Run, identity_of, restore, save
from obdbench.distillation.state_smoothing import smooth_states
from obdbench.distillation.step_methods import StepMethods
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidDataError, ObdError
from obdbench.objectives.objective import Objective
from obdbench.policies.device import to_device
from obdbench.policies.networks import get_architecture, seeded_generator, with_width
from obdbench.tasks.task import get_task
from obdbench.teachers.teacher import Teacher

CURVE_POINTS = 200


@dataclass(frozen=True)
class Progress:
    """Where a distillation stands."""

    step: int
    steps: int
    loss: float
    steps_per_second: float


@dataclass(frozen=True)
class EvaluationPoint:
    """The synsets of all seeds at one outer step."""

    step: int
    synsets: list[Synset]
    losses: list[list[tuple[int, float]]]
    seconds: float
    step_seconds: float


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
    memory: int = 2 * 1024**3,
    dtype: torch.dtype = torch.float32,
) -> Iterator[EvaluationPoint]:
    """Distil all seeds and yield their synsets at every evaluation step.

    Points that a snapshot already holds are yielded again first, without being computed.
    """
    if teacher is not None:
        check_teacher(teacher, dataset)
    run = _start(dataset, teacher, settings, seeds, device, dtype)
    run.identity = identity_of(dataset, teacher, objective, settings, seeds)
    if not objective.distils:
        run.points[0] = (run.x.cpu(), run.a.cpu(), 0.0)
        yield _point(run, 0, dataset, objective, settings, seeds)
        return
    with_width(get_architecture(settings.architecture), settings.width)
    if snapshot is not None and snapshot.exists():
        restore(run, snapshot)
    wanted = settings.evaluation_steps
    passed = [step for step in wanted if step < run.step and step not in run.points]
    if passed:
        raise ObdError(
            f"The snapshot {snapshot} stands at step {run.step} and holds no synset of step "
            f"{passed[0]}.",
            "Ask for the evaluation points it was made with, or remove it to start again.",
        )
    for step in [s for s in wanted if s in run.points]:
        yield _point(run, step, dataset, objective, settings, seeds)
    if wanted[-1] <= run.step and wanted[-1] in run.points:
        return
    step_once = _stepper(dataset, teacher, objective, settings, run, device, memory, dtype)
    saved = told = time.monotonic()
    while True:
        if run.step in wanted and run.step not in run.points:
            run.points[run.step] = (run.x.cpu().clone(), run.a.cpu().clone(), run.seconds)
            if snapshot is not None:
                save(run, snapshot)
                saved = time.monotonic()
            yield _point(run, run.step, dataset, objective, settings, seeds)
        if run.step >= wanted[-1]:
            return
        started = time.perf_counter()
        with matmul_precision(settings.precision):
            losses = step_once()
        record = run.step % max(1, settings.steps // CURVE_POINTS) == 0
        now = time.monotonic()
        due = progress is not None and (
            now - told >= progress_seconds or run.step + 1 == settings.steps
        )
        values = losses.tolist() if record or due else []  # waits for the device
        if record:
            for curve, value in zip(run.losses, values, strict=True):
                curve.append((run.step, value))
        run.step += 1
        run.durations.append(time.perf_counter() - started)
        run.seconds += run.durations[-1]
        if progress is not None and due:
            told = now
            rate = 1.0 / max(statistics.median(run.durations[-20:]), 1e-9)
            mean = sum(values) / len(values)
            progress(Progress(run.step, settings.steps, mean, rate))
        if snapshot is not None and time.monotonic() - saved > snapshot_seconds:
            save(run, snapshot)
            saved = time.monotonic()


def _start(
    dataset: Dataset,
    teacher: Teacher | None,
    settings: DistillSettings,
    seeds: Sequence[int],
    device: str,
    dtype: torch.dtype,
) -> Run:
    rngs = [np.random.default_rng([seed, 0]) for seed in seeds]
    pairs = select_initial_pairs(settings.init, dataset, teacher, settings.pairs, rngs)
    x = torch.from_numpy(np.stack([states for states, _ in pairs])).to(device, dtype)
    a = torch.from_numpy(np.stack([actions for _, actions in pairs])).to(device, dtype)
    generators = {
        stream: [seeded_generator(seed, stream) for seed in seeds]
        for stream in (POLICIES, BATCHES, NOISE)
    }
    return Run(x, a, OuterOptimizer(settings), generators, losses=[[] for _ in seeds])


def check_teacher(teacher: Teacher, dataset: Dataset) -> None:
    """Refuse a teacher of another task: by its sizes, or by its identifier where that names one."""
    sizes = teacher.observation_size, teacher.action_size
    wanted = dataset.observation_size, dataset.action_size
    try:
        task = get_task(teacher.id)
    except ObdError:
        task = dataset.task  # a name of one's own
    if sizes != wanted or task != dataset.task:
        raise InvalidDataError(
            f"The teacher {teacher.id!r} ({sizes[0]} states, {sizes[1]} actions) is none of "
            f"{dataset.task.name} ({wanted[0]} and {wanted[1]}), the task of {dataset.id}.",
            "Give a teacher of the same task.",
        )


def _stepper(
    dataset: Dataset,
    teacher: Teacher | None,
    objective: Objective,
    settings: DistillSettings,
    run: Run,
    device: str,
    memory: int,
    dtype: torch.dtype,
) -> Callable[[], Tensor]:
    """One outer step as a closure over the prepared data and the solver's buffers."""
    ways = StepMethods(settings, memory)
    ways.required_bytes(
        len(run.x),
        dataset.observation_size,
        dataset.action_size,
        step=run.step,
        dtype=dtype,
        device=device,
    )
    architecture, wide = ways.solver.how.architecture, ways.wide
    rng = np.random.default_rng([0, 4])
    seen = smooth_states(dataset, settings.smoothing)
    columns = {
        name: column.to(dtype) if column.is_floating_point() else column
        for name, column in objective.prepare(seen, teacher, rng).items()
    }
    feed = BatchSampler.from_dataset(seen, columns, device, tuple(objective.noise_columns))
    draws = settings.draws
    stack = [g for g in run.generators[POLICIES] for _ in range(draws)]
    noisy = [g for g in run.generators[NOISE] for _ in range(draws)]

    def draw_noise() -> Tensor:
        shape = (settings.inner_steps, settings.pairs, dataset.action_size)
        drawn = [torch.randn(*shape, generator=g) for g in noisy]
        return to_device(torch.stack(drawn, dim=1), device, dtype)

    def drawn() -> Callable[[Tensor], Tensor]:
        params = wide.init(
            run.generators[POLICIES],
            dataset.observation_size,
            dataset.action_size,
            dtype=dtype,
            device=device,
        )
        return lambda states: wide.apply(params, states)[0]

    def kernel_step() -> Tensor:
        batch = feed.draw(settings.kernel_batch, run.generators[BATCHES])
        gradient = ways.limit(
            run.x,
            run.a,
            batch.states.to(dtype),
            lambda actions: objective.loss(actions, batch),
            drawn() if settings.kernel_start == "drawn" else None,
        )
        run.outer.update(run.step, [run.x, run.a], [gradient.states, gradient.actions])
        return gradient.loss

    def step_once() -> Tensor:
        if run.step < settings.kernel_steps:
            return kernel_step()
        params = architecture.init(
            stack, dataset.observation_size, dataset.action_size, dtype=dtype, device=device
        )
        batch = repeated(feed.draw(settings.batch, run.generators[BATCHES]), draws)
        states = batch.states.to(dtype)
        noise = draw_noise() if settings.noise != "none" else None
        reverse = draw_noise() if settings.noise == "published" else None

        def loss(actions: Tensor) -> Tensor:
            return objective.loss(actions, batch)

        gradient = ways.solver(
            params,
            run.x.repeat_interleave(draws, 0) if draws > 1 else run.x,
            run.a.repeat_interleave(draws, 0) if draws > 1 else run.a,
            OuterLossOnStates(architecture.act, states, loss),
            noise=noise,
            reverse_noise=reverse,
            **_truncation(settings, run.step),
        )
        per_seed = (len(run.x), draws)
        grads = [
            g.reshape(*per_seed, *g.shape[1:]).mean(1) for g in (gradient.states, gradient.actions)
        ]
        run.outer.update(run.step, [run.x, run.a], grads)
        return gradient.loss.reshape(per_seed).mean(1)

    return step_once


def _truncation(settings: DistillSettings, step: int) -> dict[str, int]:
    """Which inner steps the solver differentiates.

    ``truncated`` keeps the last ``window``. ``random-truncated`` (RaT-BPTT, Feng et al., 2023,
    arXiv 2311.07025) also ends the inner loop at random, the same for all seeds of an outer step.
    """
    if settings.solver == "full" or settings.window is None:
        return {}
    if settings.solver == "truncated":
        return {"window": settings.window}
    end = np.random.default_rng([step, 5]).integers(settings.window, settings.inner_steps + 1)
    return {"window": settings.window, "steps": int(end)}


def _point(
    run: Run,
    step: int,
    dataset: Dataset,
    objective: Objective,
    settings: DistillSettings,
    seeds: Sequence[int],
) -> EvaluationPoint:
    x, a, seconds = run.points[step]
    card = {
        "dataset": dataset.id,
        "dataset_checksum": dataset.checksum,
        "objective": objective.name,
        "objective_params": objective.settings(),
        "settings": settings.model_dump(mode="json"),
        "step": step,
    }
    synsets = [
        Synset(
            states=x[i].float().numpy(),
            actions=a[i].float().numpy(),
            standardizer=dataset.standardizer,
            task=dataset.task,
            card={**card, "seed": seed},
        )
        for i, seed in enumerate(seeds)
    ]
    losses = [[entry for entry in curve if entry[0] < step] for curve in run.losses]
    median = statistics.median(run.durations) if run.durations else 0.0
    return EvaluationPoint(step, synsets, losses, seconds, median)
