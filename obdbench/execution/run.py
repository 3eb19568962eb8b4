"""Plan a run (the trials of a suite that have no result yet) and execute it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial

from obdbench.datasets.loading import load_dataset
from obdbench.distillation.initialization import needs_teacher
from obdbench.distillation.input_checks import check_inputs, check_teacher_data
from obdbench.distillation.phase_solvers import infinite_width_share, warn_kernel_mismatch
from obdbench.errors import InvalidSettingError, count_noun
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import Event
from obdbench.execution.executors import local
from obdbench.execution.executors.base import Executor, FailFastError
from obdbench.execution.experiment_loggers import ExperimentLogger, check_loggers
from obdbench.execution.job import group_into_jobs
from obdbench.execution.progress import ProgressDisplay
from obdbench.execution.trial import check_size
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import Suite, load_suite
from obdbench.objectives.objective import make_objective
from obdbench.policies.device import check_device
from obdbench.results.data_identity import check_unchanged, list_used_data
from obdbench.results.record import Result
from obdbench.results.store import ResultStore, list_stores
from obdbench.results.synset_store import SynsetStore
from obdbench.teachers.loading import load_teacher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The trials of a suite, and the results that existed when the run was planned."""

    suite: Suite
    specs: list[TrialSpec]
    results: dict[str, Result]  # by key
    store: ResultStore
    config: ExecutionConfig

    def status(self, spec: TrialSpec) -> str:
        """Return ``ok``, ``failed``, ``timeout`` or ``missing``."""
        return status_of(self.results.get(spec.key))

    @property
    def remaining(self) -> list[TrialSpec]:
        """The trials to run."""
        selected = {"missing"}
        if self.config.existing == "fresh":
            selected |= {"ok", "failed", "timeout"}
        elif self.config.retry_failed:
            selected |= {"failed", "timeout"}
        return [spec for spec in self.specs if self.status(spec) in selected]

    def finished_distillations(self) -> set[str]:
        """Return the keys of distillations that the trials to run do not repeat."""
        if self.config.existing == "fresh":
            return set()
        by_key = {spec.distill_key: SynsetStore(self.store, spec) for spec in self.remaining}
        return {key for key, store in by_key.items() if store.read_record() is not None}


@dataclass(frozen=True)
class RunSummary:
    """The outcome of a run."""

    store: ResultStore
    specs: list[TrialSpec]
    results: dict[str, Result]  # by key; trials without a result are absent
    stop_reason: str = ""  # why the run ended early, if it did

    @property
    def status(self) -> dict[str, str]:
        """By key: ``ok``, ``failed``, ``timeout`` or ``missing``."""
        return {spec.key: status_of(self.results.get(spec.key)) for spec in self.specs}

    @property
    def errors(self) -> dict[str, str]:
        """By key: why a trial failed or timed out."""
        ordered = (self.results.get(spec.key) for spec in self.specs)
        return {r.key: r.error or "" for r in ordered if r is not None and r.status != "ok"}

    @property
    def exit_code(self) -> int:
        """0 if every trial has its scores, otherwise 1."""
        return 0 if set(self.status.values()) <= {"ok"} else 1


def status_of(result: Result | None) -> str:
    """Return the status of a result, ``missing`` if there is none."""
    return "missing" if result is None else result.status


def plan(suite: Suite | str, config: ExecutionConfig) -> Plan:
    """Resolve a suite and read the results that exist; writes nothing.

    Plugins must be loaded already: the suite names what they register.
    """
    suite = load_suite(suite) if isinstance(suite, str) else suite
    specs = suite.specs()
    if config.address is None:  # the main process of a cluster may have no GPU
        check_device(config.device)
    check_loggers(config.loggers)
    config = replace(config, out=config.out.resolve())
    store = ResultStore(config.out, suite.name)
    return Plan(suite, specs, store.read_results(specs), store, config)


def execute(plan: Plan) -> RunSummary:
    """Execute a plan. Ctrl-C and fail-fast end it early; finished trials keep their results."""
    store, config = plan.store, plan.config
    if plan.results and config.existing == "refuse":
        raise InvalidSettingError(
            f"{store.folder} already has results of {len(plan.results)} of these "
            f"{count_noun(len(plan.specs), 'trial')}.",
            "Add --resume to keep them and run only the rest, or --fresh to run all of them again.",
        )
    remaining = plan.remaining
    try:
        store.prepare()
        load_and_check_inputs(remaining)
        if config.existing != "fresh":
            check_unchanged(list_used_data(store, plan.specs, plan.results))
    except BaseException:
        store.remove_empty_folders()
        raise
    if config.existing == "fresh":
        store.remove_trials(remaining)
    else:
        store.remove_failed(remaining)
    store.add_to_manifest(plan.specs, config.command)
    stop_reason = _run_jobs(plan, remaining) if remaining else ""
    started = {spec.key for spec in remaining}
    results = {key: result for key, result in plan.results.items() if key not in started}
    results |= store.read_results(remaining)
    if not stop_reason:
        store.remove_work_folder()
    return RunSummary(store, plan.specs, results, stop_reason)


def get_executor(name: str) -> Executor:
    """Return an executor by name; Ray is imported only if it is asked for."""
    if name == "ray":
        from obdbench.execution.executors import ray_executor

        return ray_executor.execute
    return local.execute


def _run_jobs(plan: Plan, remaining: list[TrialSpec]) -> str:
    """Run trials with the executor; returns why it ended early, or an empty string."""
    suite = plan.suite.name
    with ExitStack() as stack:
        display = stack.enter_context(
            ProgressDisplay(suite, remaining, finished=plan.finished_distillations())
        )
        loggers = [
            stack.enter_context(ExperimentLogger(name, remaining, plan.store))
            for name in plan.config.loggers
        ]
        if len(remaining) < len(plan.specs):
            display.print(f"{count_noun(len(plan.specs) - len(remaining), 'trial')} already done")

        handlers = [display.on_event, *(each.on_event for each in loggers)]

        def on_event(event: Event) -> None:
            for handler in handlers:
                handler(event)

        try:
            jobs = group_into_jobs(remaining, suite)
            get_executor(plan.config.executor)(jobs, plan.config, on_event, display.refresh)
        except KeyboardInterrupt:
            return "interrupted"
        except FailFastError as error:
            return f"stopped at the first failure: {error}"
    return ""


def plan_missing(suite: Suite, config: ExecutionConfig) -> tuple[list[Result], Plan]:
    """Return good results of a suite's trials from the folder of any suite, and the other trials.

    The plan runs the other trials in the suite's own folder. Nothing is written.
    """
    prepared = plan(suite, config)
    good = {key: result for key, result in prepared.results.items() if result.status == "ok"}
    for store in list_stores(prepared.store.root):
        if store.suite != suite.name:
            rest = [spec for spec in prepared.specs if spec.key not in good]
            good |= {k: r for k, r in store.read_results(rest).items() if r.status == "ok"}
    check_unchanged((result.spec, result.dataset) for result in good.values())
    rest = [spec for spec in prepared.specs if spec.key not in good]
    failed = {key: result for key, result in prepared.results.items() if key not in good}
    planned = {spec.key: spec for spec in prepared.specs}  # a stored one may name another preset
    reused = [result.model_copy(update={"spec": planned[key]}) for key, result in good.items()]
    return reused, replace(prepared, specs=rest, results=failed)


def load_and_check_inputs(specs: Sequence[TrialSpec]) -> None:
    """Download and check the datasets and teachers of trials once, before any work."""
    distilled = (spec.settings for spec in specs if spec.distills)
    by_warning = {(infinite_width_share(s), s.architecture): s for s in distilled}
    for settings in by_warning.values():
        warn_kernel_mismatch(settings)
    by_dataset: dict[str, list[TrialSpec]] = {}
    for spec in specs:
        by_dataset.setdefault(spec.dataset, []).append(spec)
    for dataset_id, trials in by_dataset.items():
        dataset, load = load_dataset(dataset_id), cache(partial(load_teacher, dataset_id))
        check_size(dataset, max(spec.settings.pairs for spec in trials))
        for spec in trials:
            objective = make_objective(spec.objective, spec.objective_params)
            teacher = None
            if needs_teacher(objective, spec.settings):
                teacher = load(spec.teacher)
                check_teacher_data(teacher, dataset)
            check_inputs(objective, spec.settings, dataset, teacher)
