"""The Ray executor: every job is a trial of Ray Tune, on this machine or on a cluster.

Ray decides where a job runs and starts it again when its process or its node is lost. The worker
writes result files to the results folder, which all nodes share, and reports events by
``tune.report``; :class:`RayRunMonitor`, a callback of Tune, passes them on. A trial is identified
by the key of its spec, never by Ray's trial id.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from obdbench.errors import ObdError
from obdbench.execution.events import FINAL, Event, Throttle
from obdbench.execution.executors.local import Audience, FailFastError
from obdbench.execution.executors.ray_cluster import (
    check_shared_storage,
    check_storage,
    connect,
    count_workers,
    enter_working_folder,
    job_resources,
    storage_token,
    tune,
)
from obdbench.execution.job import Job, Setup, Tally, group, run_job
from obdbench.execution.trial import reason, unfinished

STEP_SECONDS = 1.0


def execute(
    jobs: Sequence[Job],
    setup: Setup,
    listener: Audience,
    *,
    workers: int | None,
    address: str | None = None,
    fail_fast: bool = False,
) -> None:
    """Run jobs as trials of Ray Tune; raises on interrupts, full disks and ``fail_fast``.

    Without ``workers`` the whole cluster is used.
    """
    store = setup.store()
    monitor = RayRunMonitor(jobs, setup, listener, fail_fast)
    with (
        storage_token(store.work) as token,
        connect(address, (workers or 1) * setup.threads) as folder,
    ):
        if address is not None:
            check_shared_storage(token)
        workers = workers or count_workers(setup)
        unfinished_jobs = list(jobs)
        while unfinished_jobs:
            try:
                _run_tune(unfinished_jobs, setup, monitor, workers, token, folder)
            except Exception as error:
                cause = monitor.error or error
                if isinstance(cause, ObdError | FailFastError):
                    raise cause from None
                raise ObdError(
                    f"Ray failed: {reason(cause).rstrip('.')}.",
                    "Continue with --resume, or use --executor local.",
                ) from error
            unfinished_jobs = monitor.finish_round(unfinished_jobs)


def _run_tune(
    jobs: list[Job], setup: Setup, monitor: RayRunMonitor, workers: int, token: Path, folder: Path
) -> None:
    """Run every job once to its end; a job whose process is lost starts again."""
    by_name = {job.name: job for job in jobs}
    trainable = tune.with_parameters(run_reported_job, jobs=by_name, setup=setup, token=token)
    tune.Tuner(
        tune.with_resources(trainable, job_resources(setup, workers)),
        param_space={"job": tune.grid_search(list(by_name)), "working_folder": os.getcwd()},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
        run_config=tune.RunConfig(
            name=setup.suite,
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[monitor],
            failure_config=tune.FailureConfig(max_failures=-1),  # RayRunMonitor counts per trial
        ),
    ).fit()


def run_reported_job(
    config: dict[str, Any], *, jobs: dict[str, Job], setup: Setup, token: Path
) -> None:
    """Run a job in a worker process of Ray and report its events to the driver."""
    enter_working_folder(config["working_folder"])
    try:
        check_storage(token)
        run_job(jobs[config["job"]], setup, Throttle(report_event, STEP_SECONDS))
    except ObdError as error:  # no trial can be run here
        report_event(Event("fatal", message=str(error)))


def report_event(event: Event) -> None:
    """Send an event to the driver as a result of Tune."""
    tune.report({"event": asdict(event)})


class RayRunMonitor(tune.Callback):  # type: ignore[misc]
    """Passes events of the workers on to the progress display, and counts lost processes.

    It raises what ends the run: ``fail_fast``, and an error that concerns every trial.
    """

    def __init__(
        self, jobs: Sequence[Job], setup: Setup, listener: Audience, fail_fast: bool
    ) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.store = setup.store()
        self.listener = listener
        self.fail_fast = fail_fast
        self.deaths = Tally()
        self.running: dict[str, str] = {}  # key of the trial that a job runs, by name of the job
        self.finished: set[str] = set()
        self.error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks with its settings; nothing is restored from that file."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A worker reports an event."""
        event = Event(**result["event"])
        self.running[trial.config["job"]] = event.key
        self._pass_on(event)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The process or node of a job is lost, and Tune starts the job again."""
        self._record_loss(self.jobs[trial.config["job"]])

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune's loop has waited for events for a tenth of a second at most."""
        self.listener.tick()

    def finish_round(self, jobs: Sequence[Job]) -> list[Job]:
        """Jobs that Tune gave up although some of their trials have no result."""
        incomplete = [job for job in jobs if self.store.missing(job.specs)]
        for job in incomplete:
            self._record_loss(job)
        return group(spec for job in incomplete for spec in self.store.missing(job.specs))

    def _record_loss(self, job: Job) -> None:
        """Keep what the lost process finished; its trial fails after too many losses."""
        for spec in job.specs:
            result = self.store.result(spec.key)
            if result is not None and spec.key not in self.finished:
                self._pass_on(Event(result.status, spec.key, message=result.error or ""))
        missing = {spec.key: spec for spec in self.store.missing(job.specs)}
        running = self.running.pop(job.name, "")
        if not missing or running in self.finished:
            return
        spec = missing.get(running) or next(iter(missing.values()))
        if self.deaths.count(spec.key):
            self._pass_on(Event("restart", spec.key, message="its process or node was lost"))
        else:
            message = f"Its process or node was lost {self.deaths.deaths[spec.key]} times."
            self.store.save(unfinished(spec, self.store.suite, "failed", message))
            self._pass_on(Event("failed", spec.key, message=message))

    def _pass_on(self, event: Event) -> None:
        if event.kind == "fatal":
            self._end_run(ObdError(event.message))
        if event.kind in FINAL:
            self.finished.add(event.key)
        self.listener.handle(event)
        if self.fail_fast and event.kind in ("failed", "timeout"):
            self._end_run(FailFastError(event.message))

    def _end_run(self, error: Exception) -> None:
        self.error = self.error or error
        raise self.error
