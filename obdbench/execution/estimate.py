r"""What ``--dry-run`` says about time and memory, before anything is run.

A trial that was measured before, in any suite, tells its own step time. Otherwise an outer step
costs about

.. math:: S\,k\,\big(18\, T N P + 6\, B P\big)\ \text{operations}

for S seeds, k draws, T inner steps, N pairs, B states a batch and P weights: three matrix products
a layer forward and backward, six in the reverse sweep, at half the speed of a plain matrix product
that is timed on the spot. A step at infinite width takes as long as some 3,500 operations an entry
of its two kernel matrices. Scoring is counted by its episodes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.step_methods import StepMethods
from obdbench.errors import InvalidSettingError
from obdbench.evaluation.protocol import make_protocol
from obdbench.execution.run import Plan
from obdbench.experiments.spec import TrialSpec
from obdbench.results.record import Result
from obdbench.results.store import list_stores
from obdbench.tasks.task import TASKS, Task

EFFICIENCY = 0.5
EPISODE_SECONDS = 0.15
WIDTH = 256
KERNEL_ENTRY = 3500.0
PROCESS_BYTES = 450 * 1024**2


@dataclass(frozen=True)
class Estimate:
    """Time and memory of the trials that remain."""

    seconds: float
    bytes: float
    workers: int
    measured: int  # how many trials' times come from results
    trials: int

    def __str__(self) -> str:
        if self.trials == 0:
            return "Nothing to do."
        basis = (
            f"{self.measured} of them from earlier results" if self.measured else "a rough guess"
        )
        return (
            f"About {spoken(self.seconds)} with {self.workers} at once ({basis}), "
            f"{self.bytes / 1024**3:.1f} GiB of memory."
        )


def estimate(plan: Plan) -> Estimate:
    """Add up the trials of a plan that remain."""
    todo = plan.remaining
    measured = step_times(plan)
    rate = speed(plan.config.threads) if any(key(s) not in measured for s in todo) else 1.0
    workers = max(
        1, min(plan.config.local_workers(), len({spec.distill_key for spec in todo}) or 1)
    )
    times: dict[str, float] = {}
    known = 0
    for spec in todo:
        step = measured.get(key(spec))
        known += step is not None
        distil = 0.0
        if spec.distils:
            distil = spec.settings.steps * (step or operations(spec) / (EFFICIENCY * rate))
        times[spec.distill_key] = max(times.get(spec.distill_key, 0.0), distil)
    scoring = sum(episodes(spec) * EPISODE_SECONDS for spec in todo)
    total = (sum(times.values()) + scoring) / workers + 5.0
    longest = max(times.values(), default=0.0)
    memory = workers * max((peak(spec, plan.config.memory) for spec in todo), default=0.0)
    return Estimate(max(total, longest), memory, workers, known, len(todo))


def key(spec: TrialSpec) -> tuple[str, ...]:
    """What decides the time of an outer step."""
    settings = spec.settings.model_dump_json(exclude={"steps", "evaluate_at", "outer_lr"})
    return (task_of(spec).name, spec.objective, str(len(spec.seeds)), settings)


def step_times(plan: Plan) -> dict[tuple[str, ...], float]:
    """Median over finished trials below the results folder of their mean step."""
    found: dict[tuple[str, ...], list[float]] = {}
    for result in results(plan):
        steps, seconds = result.timing.curve[-1] if result.timing.curve else (0, 0.0)
        if steps > 0 and seconds > 0:
            found.setdefault(key(result.spec), []).append(seconds / steps)
    return {name: statistics.median(times) for name, times in found.items()}


def results(plan: Plan, limit: int = 2000) -> Iterable[Result]:
    """Good results of all suites below the results folder, at most so many."""
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


def task_of(spec: TrialSpec) -> Task:
    """The task by the dataset's name; the largest one where the name does not tell."""
    return TASKS[DatasetId(spec.dataset).task_name or "walker2d"]


def weights(spec: TrialSpec) -> int:
    """Weights of the student."""
    task, name = task_of(spec), spec.settings.architecture
    layers = int(name[3:]) if name.startswith("mlp") and name[3:].isdigit() else 4
    width = spec.settings.width or WIDTH
    return width * (task.observation_size + task.action_size + width * (layers - 2))


def operations(spec: TrialSpec) -> float:
    """Floating-point operations of the mean outer step, all seeds."""
    settings = spec.settings
    share, pairs = settings.kernel_share, settings.pairs
    inner = 18.0 * settings.inner_steps * settings.pairs * weights(spec)
    outer = 6.0 * settings.batch * weights(spec)
    kernel = KERNEL_ENTRY * (settings.kernel_batch + pairs) * pairs
    return len(spec.seeds) * ((1 - share) * settings.draws * (inner + outer) + share * kernel)


def episodes(spec: TrialSpec) -> int:
    """Episodes that scoring the trial takes, all seeds, points and arms."""
    protocol = make_protocol(spec.protocol, spec.protocol_params)
    steps = spec.settings.evaluation_steps if spec.distils else [0]
    arms = len(protocol.arms(spec.settings))
    one = 1 if spec.protocol == "ensemble" else protocol.policies
    return len(protocol.select(steps)) * arms * one * protocol.episodes * len(spec.seeds)


def peak(spec: TrialSpec, memory: float = 2.0) -> float:
    """Bytes of one worker: the interpreter, and what a step keeps within its bound in GiB."""
    if not spec.distils:
        return PROCESS_BYTES
    bound, task = round(memory * 2**30), task_of(spec)
    ways = StepMethods(spec.settings, bound)
    try:
        kept = ways.required_bytes(len(spec.seeds), task.observation_size, task.action_size)
    except InvalidSettingError:  # the trial will say so
        kept = bound
    return PROCESS_BYTES + kept


def speed(threads: int) -> float:
    """Operations a second of a plain matrix product here."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a = torch.ones(512, 512)
        times = []
        for _ in range(8):
            began = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - began)
        return 2 * 512**3 / min(times)
    finally:
        torch.set_num_threads(before)


def spoken(seconds: float) -> str:
    """A duration in words."""
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
