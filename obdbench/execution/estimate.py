"""Estimates the time and memory of a run for ``--dry-run``, before anything is run.

The time of an outer step comes from earlier results of any suite, and without any from published
results (:mod:`obdbench.execution.trial_cost`). Scoring is estimated from the number of episodes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.phase_solvers import PhaseSolvers
from obdbench.distillation.solvers.solver import ProblemSize
from obdbench.errors import InvalidSettingError
from obdbench.execution.run import Plan
from obdbench.execution.trial_cost import (
    EPISODE_SECONDS,
    UNIT_SECONDS,
    count_episodes,
    distillation_cost,
)
from obdbench.experiments.spec import TrialSpec
from obdbench.results.provenance import get_device_name
from obdbench.results.record import MANIFEST, Result
from obdbench.results.store import list_stores
from obdbench.tasks.task import Task, get_task

START_SECONDS = 5.0  # of the processes
MAX_FILES = 2000  # results of earlier runs that are read
PROCESS_BYTES = 450 * 1024**2  # interpreter and libraries


@dataclass(frozen=True)
class Estimate:
    """Time and memory of the trials to run."""

    seconds: float
    bytes: float
    workers: int
    measured: int  # number of trials whose step time is known from results
    trials: int

    def __str__(self) -> str:
        if self.trials == 0:
            return "Nothing to do."
        guess = "Step times are a rough guess."
        if self.measured:
            guess = f"Step times of {self.measured} of {self.trials} trials were measured before."
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return (
            f"About {format_duration(self.seconds)} with {workers}, "
            f"{self.bytes / 1024**3:.1f} GiB of memory. {guess}"
        )


def estimate_run(plan: Plan) -> Estimate:
    """Add up the time and memory of the trials that a plan runs."""
    specs = plan.remaining
    measured = measure_step_times(plan)
    n_known = sum(step_key(spec) in measured for spec in specs)
    finished = plan.finished_distillations()
    distillations = len({spec.distill_key for spec in specs})
    workers = max(1, min(plan.config.ray_workers() or 1, distillations or 1))
    times: dict[str, float] = {}  # by distillation
    for spec in specs:
        seconds = UNIT_SECONDS * distillation_cost(spec)
        if spec.distills and (step := measured.get(step_key(spec))):
            seconds = spec.settings.steps * step
        if spec.distill_key in finished:
            seconds = 0.0
        times[spec.distill_key] = max(times.get(spec.distill_key, 0.0), seconds)
    scoring = sum(count_episodes(spec) * EPISODE_SECONDS for spec in specs)
    total = (sum(times.values()) + scoring) / workers + START_SECONDS
    longest = max(times.values(), default=0.0)
    peaks = (estimate_peak_memory(spec, plan.config.memory_bytes) for spec in specs)
    memory = workers * max(peaks, default=0.0)
    return Estimate(max(total, longest), memory, workers, n_known, len(specs))


def step_key(spec: TrialSpec) -> tuple[str, ...]:
    """Return what determines the time of an outer step."""
    settings = spec.settings.model_dump_json(exclude={"steps", "evaluate_at", "outer_lr"})
    return (find_task(spec).name, spec.objective, str(len(spec.seeds)), settings)


def measure_step_times(plan: Plan) -> dict[tuple[str, ...], float]:
    """Return the median step time of earlier results, by what determines it.

    Only results of the same device and number of threads count.
    """
    config = plan.config
    if config.address is not None and config.device != "cpu":
        return {}  # this machine does not know the GPUs of the cluster
    machine = get_device_name(config.device), config.threads
    times: dict[tuple[str, ...], list[float]] = {}
    for result in read_successful_results(plan):
        environment = result.environment
        if environment is None or (environment.device, environment.threads) != machine:
            continue
        steps, seconds = result.timing.curve[-1] if result.timing.curve else (0, 0.0)
        if steps > 0 and seconds > 0:
            times.setdefault(step_key(result.spec), []).append(seconds / steps)
    return {key: statistics.median(values) for key, values in times.items()}


def read_successful_results(plan: Plan) -> Iterable[Result]:
    """The successful results of the plan and of at most ``MAX_FILES`` others in its folder."""
    paths = [
        (store, path.stem)
        for store in list_stores(plan.store.root)
        for path in sorted(store.folder.glob("*.json"))
        if path.name != MANIFEST
        and not (store.suite == plan.suite.name and path.stem in plan.results)
    ]
    others = (store.read_result(key) for store, key in paths[:MAX_FILES])
    results = chain(plan.results.values(), others)
    return (result for result in results if result is not None and result.status == "ok")


def find_task(spec: TrialSpec) -> Task:
    """Return the task that the dataset names; the largest task if it names none."""
    return get_task(DatasetId(spec.dataset).task_name or "walker2d")


def estimate_peak_memory(spec: TrialSpec, memory: int) -> float:
    """Return the peak bytes of one worker; a step keeps at most ``memory`` bytes."""
    if not spec.distills:
        return PROCESS_BYTES
    task, methods = find_task(spec), PhaseSolvers(spec.settings, memory)
    size = ProblemSize(len(spec.seeds), task.observation_size, task.action_size)
    try:
        kept = methods.required_bytes(size)
    except InvalidSettingError:  # reported by the trial itself
        kept = memory
    return PROCESS_BYTES + kept


def format_duration(seconds: float) -> str:
    """Format a duration in its largest fitting unit."""
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
