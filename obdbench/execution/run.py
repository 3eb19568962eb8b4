"""A run: what a suite asks for, minus what the store holds, handed to an executor."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from obdbench.errors import (
    InvalidDataError,
    InvalidSettingError,
    MissingExtraError,
    ObdError,
    unknown_name,
)
from obdbench.execution.job import Setup, group
from obdbench.execution.progress import ProgressDisplay
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import Suite, load_suite
from obdbench.plugins import Plugin, load_plugins
from obdbench.registry import objectives
from obdbench.results.data_identity import changeable, check_sources
from obdbench.results.record import Result
from obdbench.results.store import ResultStore, stores

logger = logging.getLogger(__name__)
EXECUTORS = ("local", "ray")
Existing = Literal["refuse", "resume", "fresh"]


@dataclass(frozen=True)
class ExecutionConfig:
    """How to run, as opposed to what."""

    out: Path = Path("results")
    executor: str = "local"
    address: str | None = None
    workers: int | None = None
    threads: int = 1
    memory: float = 2.0
    device: str = "cpu"
    timeout: float | None = None
    grace: float = 15.0
    existing: Existing = "refuse"
    retry_failed: bool = False
    fail_fast: bool = False
    snapshot_seconds: float = 60.0
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise unknown_name("executor", self.executor, EXECUTORS)
        for name in ("workers", "threads", "memory", "timeout", "snapshot_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidSettingError(f"{name} is {value}.", "It must be positive.")
        if self.executor == "ray" and find_spec("ray") is None:
            raise MissingExtraError("The Ray executor", "ray")
        if self.executor == "ray" and ":" in self.device:
            raise InvalidSettingError(
                f"With Ray, {self.device} names no GPU: Ray itself assigns GPUs to workers.",
                "Use --device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES.",
            )
        if self.address and self.executor != "ray":
            raise InvalidSettingError(
                "--address is for Ray only.", "Add --executor ray, or leave it out."
            )

    def crew(self) -> int:
        """Workers on this machine: as asked for, else two a GPU, else one for each core share.

        Seeds are batched, so that a GPU is full with few; two let one score while one distils.
        """
        if self.workers:
            return self.workers
        if self.device.startswith("cuda"):
            import torch

            return 2 * (torch.cuda.device_count() if self.device == "cuda" else 1)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return max(1, (cores or 1) // self.threads)


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    suite: Suite
    specs: list[TrialSpec]
    status: dict[str, str]
    store: ResultStore
    setup: Setup
    options: ExecutionConfig

    @property
    def todo(self) -> list[TrialSpec]:
        """Trials that remain."""
        left = {"missing"}
        if self.options.existing == "fresh":
            left |= {"ok", "failed", "timeout"}
        elif self.options.retry_failed:
            left |= {"failed", "timeout"}
        return [spec for spec in self.specs if self.status[spec.key] in left]


@dataclass
class Summary:
    """What became of a run's trials."""

    store: ResultStore
    status: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    ended: str = ""  # why it ended early, if it did

    @property
    def exit_code(self) -> int:
        """0 where every trial is done, 1 otherwise."""
        return 0 if set(self.status.values()) <= {"ok"} else 1


def plan(suite: Suite | str, options: ExecutionConfig) -> Plan:
    """Resolve a suite and look up what is done; nothing is written."""
    plugins = tuple(Plugin.read(reference) for reference in options.plugins)
    load_plugins(list(plugins))
    suite = load_suite(suite) if isinstance(suite, str) else suite
    specs = suite.specs()
    if options.address is None:  # a cluster's driver may have no GPU
        check_device(options.device)
    store = ResultStore(options.out.resolve(), suite.name)
    setup = Setup(
        root=str(store.root),
        suite=suite.name,
        device=options.device,
        threads=options.threads,
        memory=options.memory,
        timeout=options.timeout,
        grace=options.grace,
        snapshot_seconds=options.snapshot_seconds,
        plugins=plugins,
        path=tuple(str(Path(entry or ".").resolve()) for entry in sys.path),
    )
    return Plan(suite, specs, store.status(specs), store, setup, options)


def execute(plan: Plan) -> Summary:
    """Carry a plan out; Ctrl-C and fail-fast end it early with everything done so far kept."""
    from obdbench.execution.executors.local import FailFastError

    store, options = plan.store, plan.options
    finished = [spec for spec in plan.specs if plan.status[spec.key] != "missing"]
    if finished and options.existing == "refuse":
        raise InvalidSettingError(
            f"{store.folder} holds results of {len(finished)} of these "
            f"{len(plan.specs)} trials already.",
            "Add --resume to run only the rest, or --fresh to run all of them anew.",
        )
    todo = plan.todo
    try:
        store.prepare()
        preflight(todo)
        if options.existing != "fresh":
            check_sources(changeable(store, plan.specs))
    except BaseException:
        store.retract()
        raise
    if options.existing == "fresh":
        store.forget(todo)
    else:
        store.clear(todo)
    store.expect(plan.specs)
    ended = ""
    if todo:
        with ProgressDisplay(plan.suite.name, todo) as display:
            if len(todo) < len(plan.specs):
                display.print(f"{len(plan.specs) - len(todo)} trials are done already")
            try:
                _hand_out(plan, todo, display)
            except KeyboardInterrupt:
                ended = "interrupted"
            except FailFastError as error:
                ended = f"stopped at the first failure: {error}"
    status = store.status(plan.specs)
    results = {key: store.result(key) for key, state in status.items() if state != "ok"}
    errors = {key: result.error or "" for key, result in results.items() if result is not None}
    if not ended:
        store.tidy()
    return Summary(store, status, errors, ended)


def _hand_out(plan: Plan, todo: list[TrialSpec], audience: ProgressDisplay) -> None:
    options, jobs = plan.options, group(todo)
    if options.executor == "ray":
        from obdbench.execution.executors import ray_executor

        ray_executor.execute(
            jobs,
            plan.setup,
            audience,
            workers=options.workers if options.address else options.crew(),
            address=options.address,
            fail_fast=options.fail_fast,
        )
        return
    from obdbench.execution.executors import local

    local.execute(jobs, plan.setup, audience, workers=options.crew(), fail_fast=options.fail_fast)


def run(suite: Suite | str, options: ExecutionConfig | None = None) -> Summary:
    """Plan and execute."""
    return execute(plan(suite, options or ExecutionConfig(existing="resume")))


def collect(suite: Suite, options: ExecutionConfig) -> tuple[list[Result], Summary | None]:
    """Results of a suite's trials from any suite's folder; runs what none of them holds.

    A result that counts is one that is ``ok``; what has to be run goes to the suite's own folder.
    """
    prepared = plan(suite, options)
    found: dict[str, Result] = {}
    for store in stores(prepared.store.root):
        for spec in prepared.specs:
            result = store.result(spec.key)
            if result is not None and result.status == "ok":
                found.setdefault(spec.key, result)
    check_sources((result.spec, result.dataset) for result in found.values())
    left = [spec for spec in prepared.specs if spec.key not in found]
    if not left:
        return list(found.values()), None
    summary = execute(replace(prepared, specs=left))
    for spec in left:
        result = prepared.store.result(spec.key)
        if result is not None and result.status == "ok":
            found[spec.key] = result
    return list(found.values()), summary


def preflight(specs: Sequence[TrialSpec]) -> None:
    """Fetch and check, once and before any work, what the trials will read."""
    from obdbench.datasets.loading import load_dataset
    from obdbench.teachers.loading import load_teacher

    mention_kernel(specs)
    largest: dict[str, int] = {}
    taught: set[str] = set()
    for spec in specs:
        largest[spec.dataset] = max(largest.get(spec.dataset, 0), spec.settings.pairs)
        if objectives.get(spec.objective).uses_teacher or spec.settings.init == "top-q":
            taught.add(spec.dataset)
    for dataset_id, pairs in largest.items():
        dataset = load_dataset(dataset_id)
        if pairs > len(dataset):
            raise InvalidDataError(
                f"{dataset_id} holds {len(dataset)} transitions, fewer than {pairs} pairs.",
                "Ask for fewer with --set pairs=N.",
            )
        if dataset_id in taught:
            teacher = load_teacher(dataset_id)
            sizes = (dataset.observation_size, dataset.action_size)
            if (teacher.observation_size, teacher.action_size) != sizes:
                raise InvalidDataError(
                    f"The teacher {teacher.id!r} does not fit {dataset_id}: it maps "
                    f"{teacher.observation_size} inputs to {teacher.action_size} actions.",
                    "Check that the file belongs to this task.",
                )


def mention_kernel(specs: Sequence[TrialSpec]) -> None:
    """Say where steps at infinite width are those of another student than the exact ones."""
    from obdbench.policies.networks import Architecture, get_architecture

    shares = {
        spec.settings.architecture: spec.settings.kernel_share
        for spec in specs
        if spec.settings.kernel_share and spec.objective != "random"
    }
    for name, share in shares.items():
        student = get_architecture(name)
        if type(student) is not Architecture or student.residual:
            logger.warning(
                "%.0f%% of the steps are taken at infinite width, which is that of a plain ReLU "
                "MLP, not of %s. Do without with --set kernel_share=0.",
                100 * share,
                name,
            )


def check_device(device: str) -> None:
    """Refuse a device that is not there."""
    if device == "cpu":
        return
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise InvalidSettingError(f"{device!r} names no device.", "Use cpu, cuda or cuda:N.")
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ObdError(
            f"The device {device!r} cannot be used: {str(error).splitlines()[0]}.",
            "Use --device cpu.",
        ) from error
