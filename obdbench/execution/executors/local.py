"""The local executor: worker processes that run one job at a time each.

If a worker dies, its trial continues in a new process from the last snapshot. Only a trial whose
worker dies three times becomes a failed result.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path

import torch

from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import Event, EventHandler
from obdbench.execution.executors.base import RunEvents
from obdbench.execution.job import Job
from obdbench.execution.trial import TIMEOUT_EXIT
from obdbench.results.store import ResultStore

POLL_SECONDS = 0.25
MAX_OUTPUT_BYTES = 4096  # of a dead worker, kept with the failed result
EXIT_SECONDS = 5.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def execute(
    jobs: Sequence[Job],
    config: ExecutionConfig,
    on_event: EventHandler,
    refresh: Callable[[], None],
) -> None:
    """Run jobs in worker processes; see :data:`~obdbench.execution.executors.base.Executor`."""
    if not jobs:
        return
    run = _LocalRun(jobs, config, on_event)
    try:
        for _ in range(min(config.local_workers(), len(jobs))):
            run.start_worker()
        while run.workers:
            run.process_messages()
            refresh()
    finally:
        for worker in run.workers:
            worker.kill()
        refresh()


class _Worker:
    """A process, the pipe to it, and the job it runs."""

    def __init__(self, config: ExecutionConfig, log: Path) -> None:
        self.pipe, remote = Pipe()
        self.job: Job | None = None
        self.current_key = ""  # of the trial that the last event was about
        self.log, self.device = log, config.device
        threads = dict.fromkeys(THREAD_VARIABLES, str(config.threads))
        module = "obdbench.execution.executors.local_worker"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._log_start = output.tell()  # a run that is resumed appends to the file
            self.process = subprocess.Popen(
                # -P: a module of the user's folder does not take the place of a library
                [sys.executable, "-P", "-m", module, str(remote.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[remote.fileno()],
                env={**os.environ, **threads, "PYTHONPATH": _python_path()},
                start_new_session=True,
            )
        remote.close()
        self.pipe.send(config)

    def assign(self, job: Job) -> None:
        """Send a job to the process."""
        self.job, self.current_key = job, ""
        self.pipe.send(job)

    def read_output(self) -> str:
        """Return the end of what the process has printed."""
        with suppress(OSError), self.log.open("rb") as output:
            output.seek(max(self._log_start, output.seek(0, os.SEEK_END) - MAX_OUTPUT_BYTES))
            return output.read().decode(errors="replace")
        return ""

    def kill(self) -> None:
        """Kill the process; files are written atomically, so none is left incomplete."""
        self.process.kill()
        self.process.wait()
        self.pipe.close()


def _python_path() -> str:
    """Return a PYTHONPATH on which the worker finds this package, installed or not."""
    root = str(Path(__file__).resolve().parents[3])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))


class _LocalRun:
    def __init__(
        self, jobs: Sequence[Job], config: ExecutionConfig, on_event: EventHandler
    ) -> None:
        self.pending = deque(jobs)
        self.config = config
        self.store: ResultStore = jobs[0].open_store(config)
        self.events = RunEvents(config, self.store, on_event)
        self.workers: list[_Worker] = []
        self.started = 0

    def start_worker(self) -> None:
        """Start a worker for the next pending job."""
        log = self.store.work_folder / f"worker-{self.started}.log"
        worker = _Worker(self._config_on_device(), log)
        self.started += 1
        self.workers.append(worker)
        self._assign_next(worker)

    def _config_on_device(self) -> ExecutionConfig:
        """Choose the GPU with the fewest workers where there are several."""
        if self.config.device != "cuda":
            return self.config
        workers = Counter(worker.device for worker in self.workers)
        devices = [f"cuda:{index}" for index in range(max(1, torch.cuda.device_count()))]
        return replace(self.config, device=min(devices, key=lambda device: workers[device]))

    def _assign_next(self, worker: _Worker) -> None:
        """Give a worker the next job, or end it if there is none."""
        if self.pending:
            job = self.pending.popleft()
            try:
                worker.assign(job)
            except (BrokenPipeError, ConnectionResetError):
                self._replace_dead(worker)
        else:
            self.workers.remove(worker)
            worker.kill()

    def process_messages(self) -> None:
        """Process the messages that arrive within one polling interval."""
        by_pipe = {worker.pipe: worker for worker in self.workers}
        for pipe in wait(list(by_pipe), POLL_SECONDS):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                self._replace_dead(worker)
                continue
            if isinstance(message, Event):
                worker.current_key = message.key
                self.events.forward(message)
            else:
                if worker.job is not None:  # another process may have run some of its trials
                    self.events.forward_stored_results(worker.job.specs)
                worker.job = None
                self._assign_next(worker)

    def _replace_dead(self, worker: _Worker) -> None:
        """Start a new worker for the unfinished trials of a dead one; some may have failed."""
        self.workers.remove(worker)
        with suppress(subprocess.TimeoutExpired):  # the pipe closes before a process has ended
            worker.process.wait(EXIT_SECONDS)
        worker.kill()
        code, current_key = worker.process.returncode, worker.current_key
        job, worker.job = worker.job, None
        if job is not None:
            missing = self.events.forward_stored_results(job.specs)
            # a timeout is no death, unless its result could not be written
            if code != TIMEOUT_EXIT or any(spec.key == current_key for spec in missing):
                missing = self.events.count_death(
                    missing, current_key, describe_exit_code(code), worker.read_output()
                )
            if missing:
                self.pending.appendleft(replace(job, specs=tuple(missing)))
        if self.pending:
            self.start_worker()


def describe_exit_code(code: int | None) -> str:
    """Say why a process ended."""
    if code == -9:
        return "killed, possibly because memory ran out"
    if code is not None and code < 0:
        return f"ended by signal {-code}"
    return f"ended with exit code {code}"
