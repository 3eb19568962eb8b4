"""A job: one distillation with every trial that scores it, the unit that executors run.

Seeds are batched inside a distillation and protocols share it, so that a device runs few large
programs, and nothing is distilled twice.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from obdbench.errors import ObdError, UnknownNameError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import EventHandler
from obdbench.execution.trial import run_trial
from obdbench.execution.trial_cost import distillation_cost
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import resolve_dataset_id
from obdbench.registry import datasets
from obdbench.results.store import ResultStore

SLOW_IMPORTS = ("obdbench.distillation.loop", "obdbench.evaluation.protocol")


@dataclass(frozen=True)
class Job:
    """Trials of one suite that share one distillation."""

    distill_key: str
    suite: str
    specs: tuple[TrialSpec, ...]

    def open_store(self, config: ExecutionConfig) -> ResultStore:
        """Return the store of the job's results."""
        return ResultStore(config.out, self.suite)


def group_into_jobs(specs: Iterable[TrialSpec], suite: str) -> list[Job]:
    """Group trials by distillation, the most expensive jobs first."""
    by_key: dict[str, list[TrialSpec]] = {}
    for spec in specs:
        by_key.setdefault(spec.distill_key, []).append(spec)
    jobs = [Job(key, suite, tuple(trials)) for key, trials in by_key.items()]
    return sorted(jobs, key=lambda job: -distillation_cost(job.specs[0]))


@cache
def prepare_process(config: ExecutionConfig) -> None:
    """Make this process able to run trials, once: import path, slow imports and plugins.

    The time of a trial starts afterwards.
    """
    sys.path.extend(path for path in config.import_paths if path not in sys.path)
    for module in SLOW_IMPORTS:
        import_module(module)
    for plugin in config.plugins:
        plugin.load()


def check_specs(specs: Iterable[TrialSpec]) -> None:
    """Raise an error unless this process knows every name in the specs, from the same source."""
    for spec in specs:
        for registry, name in spec.components():
            if registry is datasets:
                resolve_dataset_id(name)  # a file is not registered
            else:
                registry.get(name)
        if spec.fingerprint_code() != spec.code:
            raise ObdError(
                f"The plugin code of {spec.label()!r} differs from that of the main process.",
                "Install the same version of the plugin on every machine, and continue with "
                "--resume.",
            )


def run_job(job: Job, config: ExecutionConfig, on_event: EventHandler) -> None:
    """Run the trials of a job that have no result yet, in this process.

    Raises where no trial can be run: the disk cannot be written, or a plugin is missing.
    """
    try:
        prepare_process(config)
        check_specs(job.specs)
    except ObdError as error:
        remedy = error.remedy
        if isinstance(error, UnknownNameError):
            remedy = (
                "Name the plugin with --plugin (in Python: plugins=), or install it on every "
                "machine, and continue with --resume."
            )
        cause = f"A worker on {platform.node()} cannot run {job.specs[0].label()}: {error.cause}"
        raise ObdError(cause, remedy) from error
    store = job.open_store(config)
    for spec in store.find_missing(job.specs):
        run_trial(spec, store, config, on_event, exit_on_hang=True)
