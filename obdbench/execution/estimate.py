r"""Estimates the time and memory of a run for ``--dry-run``, before anything is run.

The time of an outer step comes from earlier results of any suite. Without any, an exact outer step
costs about

.. math:: S\,k\,\big(18\, T N P + 6\, B P\big)\ \text{operations}

for S seeds, k draws, T inner steps, N pairs, batches of B states and P weights: three matrix
products per layer forward and backward, and six in the reverse sweep. The speed is half that of a
matrix product that is timed on this machine. An infinite-width step takes about 3,500 operations
per entry of its two kernel matrices. Scoring is estimated from the number of episodes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.step_methods import StepMethods
from obdbench.errors import InvalidSettingError
from obdbench.execution.run import Plan
from obdbench.execution.trial_cost import EPISODE_SECONDS, count_episodes
from obdbench.experiments.spec import TrialSpec
from obdbench.results.record import Result
from obdbench.results.store import list_stores
from obdbench.tasks.task import Task, get_task

EFFICIENCY = 0.5  # of the speed of a matrix product
DEFAULT_WIDTH = 256
START_SECONDS = 5.0  # of the processes
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
        basis = (
            f"{self.measured} of them from earlier results" if self.measured else "a rough guess"
        )
        return (
            f"About {format_duration(self.seconds)} with {self.workers} at once ({basis}), "
            f"{self.bytes / 1024**3:.1f} GiB of memory."
        )


def estimate_run(plan: Plan) -> Estimate:
    """Add up the time and memory of the trials that a plan runs."""
    specs = plan.remaining
    measured = measure_step_times(plan)
    is_known = [step_key(spec) in measured for spec in specs]
    speed = 1.0 if all(is_known) else measure_speed(plan.config.threads)
    distillations = len({spec.distill_key for spec in specs})
    workers = max(1, min(plan.config.local_workers(), distillations or 1))
    times: dict[str, float] = {}  # by distillation
    for spec in specs:
        seconds = 0.0
        if spec.distils:
            guess = count_operations(spec) / (EFFICIENCY * speed)
            seconds = spec.settings.steps * measured.get(step_key(spec), guess)
        times[spec.distill_key] = max(times.get(spec.distill_key, 0.0), seconds)
    scoring = sum(count_episodes(spec) * EPISODE_SECONDS for spec in specs)
    total = (sum(times.values()) + scoring) / workers + START_SECONDS
    longest = max(times.values(), default=0.0)
    peaks = (estimate_peak_memory(spec, plan.config.memory) for spec in specs)
    memory = workers * max(peaks, default=0.0)
    return Estimate(max(total, longest), memory, workers, sum(is_known), len(specs))


def step_key(spec: TrialSpec) -> tuple[str, ...]:
    """Return what determines the time of an outer step."""
    settings = spec.settings.model_dump_json(exclude={"steps", "evaluate_at", "outer_lr"})
    return (find_task(spec).name, spec.objective, str(len(spec.seeds)), settings)


def measure_step_times(plan: Plan) -> dict[tuple[str, ...], float]:
    """Return the median step time of earlier results, by what determines it."""
    times: dict[tuple[str, ...], list[float]] = {}
    for result in read_good_results(plan):
        steps, seconds = result.timing.curve[-1] if result.timing.curve else (0, 0.0)
        if steps > 0 and seconds > 0:
            times.setdefault(step_key(result.spec), []).append(seconds / steps)
    return {key: statistics.median(values) for key, values in times.items()}


def read_good_results(plan: Plan, limit: int = 2000) -> Iterable[Result]:
    """Yield good results of all suites in the results folder; reads at most ``limit`` files."""
    yield from (result for result in plan.results.values() if result.status == "ok")
    paths = [
        (store, path.stem)
        for store in list_stores(plan.store.root)
        for path in sorted(store.folder.glob("*.json"))
        if path.name != "manifest.json"
        and not (store.suite == plan.suite.name and path.stem in plan.results)
    ]
    for store, key in paths[:limit]:
        result = store.read_result(key)
        if result is not None and result.status == "ok":
            yield result


def find_task(spec: TrialSpec) -> Task:
    """Return the task that the dataset names; the largest task if it names none."""
    return get_task(DatasetId(spec.dataset).task_name or "walker2d")


def count_weights(spec: TrialSpec) -> int:
    """Return the number of weights of the student."""
    task, name = find_task(spec), spec.settings.architecture
    layers = int(name[3:]) if name.startswith("mlp") and name[3:].isdigit() else 4
    width = spec.settings.width or DEFAULT_WIDTH
    return width * (task.observation_size + task.action_size + width * (layers - 2))


def count_operations(spec: TrialSpec) -> float:
    """Return the floating-point operations of an average outer step, all seeds."""
    methods = StepMethods(spec.settings, DEFAULT_MEMORY_BYTES)
    return len(spec.seeds) * methods.count_operations(count_weights(spec))


def estimate_peak_memory(spec: TrialSpec, memory: float = 2.0) -> float:
    """Return the peak bytes of one worker; a step keeps at most ``memory`` GiB."""
    if not spec.distils:
        return PROCESS_BYTES
    bound, task = round(memory * 2**30), find_task(spec)
    methods = StepMethods(spec.settings, bound)
    try:
        kept = methods.required_bytes(len(spec.seeds), task.observation_size, task.action_size)
    except InvalidSettingError:  # reported by the trial itself
        kept = bound
    return PROCESS_BYTES + kept


def measure_speed(threads: int) -> float:
    """Time a matrix product on this machine, in operations per second."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        matrix = torch.ones(512, 512)
        times = []
        for _ in range(8):
            started = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - started)
        return 2 * 512**3 / min(times)
    finally:
        torch.set_num_threads(before)


def format_duration(seconds: float) -> str:
    """Format a duration in its largest fitting unit."""
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
