"""The Ray executor: every job is a trial of Ray Tune, on this machine or on a cluster.

Ray decides where a job runs and starts it again when its process or its node is lost. The worker
writes result files to the results folder, which all nodes share, and reports events by
``tune.report``; :class:`RayRunMonitor`, a callback of Tune, passes them on. A trial is identified
by the key of its spec, never by Ray's trial id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from obdbench.errors import ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import Event, EventHandler, StepThrottle
from obdbench.execution.executors.base import FailFastError, RunEvents
from obdbench.execution.executors.ray_cluster import (
    RunCallback,
    check_shared_storage,
    check_storage,
    connect,
    enter_working_folder,
    run_tuner,
    storage_token,
    tune,
)
from obdbench.execution.job import Job, group_into_jobs, run_job
from obdbench.execution.trial import error_summary
from obdbench.experiments.spec import TrialSpec

STEP_SECONDS = 1.0
LOST_PROCESS = "its process or node was lost"


def execute(
    jobs: Sequence[Job],
    config: ExecutionConfig,
    on_event: EventHandler,
    refresh: Callable[[], None],
) -> None:
    """Run jobs as trials of Ray Tune; see :data:`~obdbench.execution.executors.base.Executor`."""
    if not jobs:
        return
    monitor = RayRunMonitor(jobs, config, on_event, refresh)
    try:
        with (
            storage_token(monitor.store.work_folder) as token,
            connect(config) as (folder, workers),
        ):
            if config.address is not None:
                check_shared_storage(token)
            rest = list(jobs)
            while rest:  # a round runs every job to its end; one whose process is lost starts again
                by_key = {job.distill_key: job for job in rest}
                run_tuner(
                    tune.with_parameters(
                        run_reported_job, jobs=by_key, execution=config, token=token
                    ),
                    {"job": list(by_key)},
                    name=monitor.store.suite,
                    folder=folder,
                    config=config,
                    workers=workers,
                    callback=monitor,
                    max_failures=-1,  # RayRunMonitor counts per trial
                )
                rest = monitor.finish_round(rest)
    except Exception as error:
        cause = monitor.error or error
        if isinstance(cause, ObdError | FailFastError):
            raise cause from None
        raise ObdError(
            f"Ray failed: {error_summary(cause).rstrip('.')}.",
            "Continue with --resume, or use --executor local.",
        ) from error


def run_reported_job(
    config: dict[str, Any], *, jobs: dict[str, Job], execution: ExecutionConfig, token: Path
) -> None:
    """Run a job in a worker process of Ray and report its events to the driver."""
    enter_working_folder(config["working_folder"])
    try:
        check_storage(token)
        run_job(jobs[config["job"]], execution, StepThrottle(report_event, STEP_SECONDS))
    except ObdError as error:  # no trial can be run here
        report_event(Event("fatal", message=str(error)))


def report_event(event: Event) -> None:
    """Send an event to the driver as a result of Tune."""
    tune.report({"event": asdict(event)})


class RayRunMonitor(RunCallback):
    """Passes events of the workers on to the progress display, and counts lost processes.

    It raises what ends the run: ``fail_fast``, and an error that concerns every trial.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        config: ExecutionConfig,
        on_event: EventHandler,
        refresh: Callable[[], None],
    ) -> None:
        self.jobs = {job.distill_key: job for job in jobs}
        self.store = jobs[0].open_store(config)
        self.events = RunEvents(config, self.store, on_event)
        self.refresh = refresh
        self.running: dict[str, str] = {}  # key of the trial that a job runs, by key of the job
        self.error: Exception | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Forward the event that a worker reports."""
        event = Event(**result["event"])
        self.running[trial.config["job"]] = event.key
        with self._keep_error():
            self.events.forward(event)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count a lost process or node; Tune starts its job again."""
        job = self.jobs[trial.config["job"]]
        running = self.running.pop(job.distill_key, "")
        with self._keep_error():
            missing = self.events.forward_stored_results(job.specs)
            if running not in self.events.finished:  # otherwise a timeout ended the process
                self.events.count_death(missing, running, LOST_PROCESS)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Refresh the display; Tune calls this several times per second."""
        self.refresh()

    def finish_round(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs that Tune stopped retrying although trials of them have no result."""
        rest: list[TrialSpec] = []
        with self._keep_error():
            for job in jobs:
                missing = self.events.forward_stored_results(job.specs)
                rest += self.events.count_death(
                    missing, self.running.pop(job.distill_key, ""), LOST_PROCESS
                )
        return group_into_jobs(rest, self.store.suite)

    @contextmanager
    def _keep_error(self) -> Iterator[None]:
        """Remember the error that ends the run, because Tune raises another one."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            raise
