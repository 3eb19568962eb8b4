"""A job: one distillation with every trial that scores it, the unit that executors hand out.

Seeds are batched inside a distillation and protocols share it, so that a device runs few large
programs, and nothing is distilled twice.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path

from obdbench.errors import ObdError
from obdbench.execution.events import Emit
from obdbench.experiments.fingerprint import code_fingerprint
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import resolve_dataset_id
from obdbench.plugins import Plugin, load_plugins
from obdbench.registry import architectures, objectives, protocols
from obdbench.results.store import ResultStore, StorageError

TIMEOUT_EXIT = 75
MAX_DEATHS = 3


@dataclass(frozen=True)
class Setup:
    """What every worker of a run needs to know."""

    root: str
    suite: str
    device: str = "cpu"
    threads: int = 1
    memory: float = 2.0  # GiB for the inner loop
    timeout: float | None = None
    grace: float = 15.0  # seconds beyond the timeout until a hanging process is ended
    snapshot_seconds: float = 60.0
    plugins: tuple[Plugin, ...] = ()
    path: tuple[str, ...] = ()  # the driver's sys.path

    def store(self) -> ResultStore:
        """The store of the run."""
        return ResultStore(Path(self.root), self.suite)


@dataclass(frozen=True)
class Job:
    """Trials that share one distillation."""

    name: str
    specs: tuple[TrialSpec, ...]

    @property
    def weight(self) -> float:
        """Rough share of the run's work."""
        return work(self.specs[0])


@dataclass
class Tally:
    """How often the worker of a trial died, and what to do then."""

    deaths: dict[str, int] = field(default_factory=dict)

    def count(self, key: str) -> bool:
        """Whether to try the trial again."""
        self.deaths[key] = self.deaths.get(key, 0) + 1
        return self.deaths[key] < MAX_DEATHS


def work(spec: TrialSpec) -> float:
    """Outer steps by the cost of one, with a little for everything else; only for shares."""
    settings = spec.settings
    narrow = 1.0 if settings.width is None else min(1.0, settings.width / 256)
    exact = (1 - settings.kernel_share) * narrow + 0.03 * settings.kernel_share
    steps = 0 if spec.objective == "random" else settings.steps * settings.draws * exact
    pairs = settings.pairs * settings.inner_steps
    return 1.0 + len(spec.seeds) * steps * (pairs + settings.batch) / 2e5


def group(specs: Iterable[TrialSpec]) -> list[Job]:
    """Trials by distillation, the largest jobs first."""
    by_key: dict[str, list[TrialSpec]] = {}
    for spec in specs:
        by_key.setdefault(spec.distill_key, []).append(spec)
    jobs = [Job(name, tuple(trials)) for name, trials in by_key.items()]
    return sorted(jobs, key=lambda job: -job.weight)


def ready(setup: Setup) -> None:
    """Make this process able to run trials: import path, plugins, and what takes long to import.

    A trial's time starts behind this.
    """
    import sys

    sys.path.extend(entry for entry in setup.path if entry not in sys.path)
    for module in ("obdbench.distillation.loop", "obdbench.evaluation.protocol"):
        import_module(module)
    load_plugins(list(setup.plugins))


def fit(specs: Iterable[TrialSpec]) -> None:
    """Insist that this process knows what its trials name, by the source that the driver knows."""
    for spec in specs:
        objectives.get(spec.objective)
        protocols.get(spec.protocol)
        resolve_dataset_id(spec.dataset)
        architectures.get(spec.settings.architecture)
        held = code_fingerprint(
            spec.objective, spec.protocol, spec.settings.architecture, spec.dataset
        )
        if held != spec.code:
            raise ObdError(
                f"Its own code in {spec.label()!r} is not the driver's.",
                "Install the same version of the plugin on every node.",
            )


def run_job(job: Job, setup: Setup, emit: Emit) -> None:
    """Run the trials of a job that have no result yet, in this process.

    Raises where no trial can be run here: the disk refuses, or a plugin is missing.
    """
    from obdbench.execution.trial import run_trial

    store = setup.store()
    try:
        ready(setup)
        fit(job.specs)
    except ObdError as error:
        raise ObdError(
            f"A worker on {platform.node()} cannot run {job.specs[0].label()}: {error.cause}",
            "Name own code with --plugin (in Python: plugins=), or install it on every machine, "
            "and go on with --resume.",
        ) from error
    for spec in store.missing(job.specs):
        run_trial(
            spec,
            store,
            progress=emit,
            device=setup.device,
            threads=setup.threads,
            memory=setup.memory,
            timeout=setup.timeout,
            snapshot_seconds=setup.snapshot_seconds,
            guard=partial(watchdog, spec, setup),
            reuse=True,
        )


@contextmanager
def watchdog(spec: TrialSpec, setup: Setup) -> Iterator[None]:
    """End this process if a trial hangs beyond its timeout, leaving the row behind."""
    if setup.timeout is None:
        yield
        return
    timer = threading.Timer(setup.timeout + setup.grace, _expire, (spec, setup))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _expire(spec: TrialSpec, setup: Setup) -> None:
    from obdbench.execution.trial import unfinished

    message = f"The trial took longer than {setup.timeout:g} s and did not answer."
    try:
        store = setup.store()
        if store.status([spec])[spec.key] != "ok":
            store.save(unfinished(spec, setup.suite, "timeout", message))
    except StorageError:
        pass
    finally:
        os._exit(TIMEOUT_EXIT)
