"""The local executor: a few worker processes, one job at a time each.

A worker that dies takes nothing with it: its trial goes on in a fresh process from the last
snapshot, and only a trial whose worker dies again and again becomes a failed row.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from obdbench.errors import ObdError
from obdbench.execution.events import FINAL, Event
from obdbench.execution.job import TIMEOUT_EXIT, Job, Setup, Tally
from obdbench.execution.trial import unfinished

TICK = 0.25
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Audience(Protocol):
    """Who is told what happens."""

    def handle(self, event: Event) -> None:
        """Take one piece of news."""

    def tick(self) -> None:
        """Draw, if it is time to."""


class FailFastError(Exception):
    """A trial failed and the run was to end there."""


@dataclass
class Worker:
    """A process, its pipe and what it is doing."""

    process: subprocess.Popen[bytes]
    pipe: Connection[Any, Any]
    job: Job | None = None
    current: str = ""
    announced: set[str] = field(default_factory=set)

    def give(self, job: Job) -> None:
        """Hand it a job."""
        self.job, self.current, self.announced = job, "", set()
        self.pipe.send(job)

    def end(self) -> None:
        """Stop the process at once; what it wrote is whole."""
        self.process.kill()
        self.process.wait()
        self.pipe.close()


def spawn(setup: Setup, index: int) -> Worker:
    """Start a worker; what it prints goes to a log in the working folder."""
    ours, theirs = Pipe()
    threads = dict.fromkeys(THREAD_VARIABLES, str(setup.threads))
    log = setup.store().work / f"worker-{index}.log"
    command = [
        sys.executable,
        "-m",
        "obdbench.execution.executors.local_worker",
        str(theirs.fileno()),
    ]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **threads, "PYTHONPATH": _python_path()},
            start_new_session=True,
        )
    theirs.close()
    ours.send(setup)
    return Worker(process, ours)


def _python_path() -> str:
    """Where the worker finds this very package, installed or not."""
    root = str(Path(__file__).resolve().parents[3])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))


def execute(
    jobs: Sequence[Job],
    setup: Setup,
    audience: Audience,
    *,
    workers: int,
    fail_fast: bool = False,
) -> None:
    """Run jobs in ``workers`` processes; raises on interrupts, full disks and fail-fast."""
    run = _Run(deque(jobs), setup, audience, fail_fast)
    try:
        run.start(min(workers, len(jobs)))
        while run.crew:
            run.listen()
            audience.tick()
    finally:
        for worker in run.crew:
            worker.end()
        audience.tick()


class _Run:
    def __init__(
        self, pending: deque[Job], setup: Setup, audience: Audience, fail_fast: bool
    ) -> None:
        self.pending = pending
        self.setup = setup
        self.store = setup.store()
        self.audience = audience
        self.fail_fast = fail_fast
        self.tally = Tally()
        self.crew: list[Worker] = []
        self.spawned = 0

    def start(self, workers: int) -> None:
        for _ in range(workers):
            self.hire()

    def hire(self) -> None:
        """Another worker for the next job."""
        worker = spawn(self.device_setup(), self.spawned)
        self.spawned += 1
        self.crew.append(worker)
        self.next(worker)

    def device_setup(self) -> Setup:
        """GPUs in turn, where there are several."""
        if self.setup.device != "cuda":
            return self.setup
        from dataclasses import replace

        import torch

        index = self.spawned % max(1, torch.cuda.device_count())
        return replace(self.setup, device=f"cuda:{index}")

    def next(self, worker: Worker) -> None:
        """Give a worker the next job, or let it go."""
        if self.pending:
            job = self.pending.popleft()
            try:
                worker.give(job)
            except (BrokenPipeError, ConnectionResetError):
                self.lost(worker)
        else:
            self.crew.remove(worker)
            worker.end()

    def listen(self) -> None:
        """Take whatever the workers say within one tick."""
        for pipe in wait([worker.pipe for worker in self.crew], TICK):
            worker = next(one for one in self.crew if one.pipe is pipe)
            try:
                message = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                self.lost(worker)
                continue
            if isinstance(message, Event):
                worker.current = message.key
                self.tell(worker, message)
            else:
                worker.job = None
                self.next(worker)

    def tell(self, worker: Worker, event: Event) -> None:
        if event.kind == "fatal":
            raise ObdError(event.message)
        if event.kind in FINAL:
            worker.announced.add(event.key)
        self.audience.handle(event)
        if self.fail_fast and event.kind in ("failed", "timeout"):
            raise FailFastError(event.message)

    def lost(self, worker: Worker) -> None:
        """A worker died: keep what it finished, go on with the rest or give its trial up."""
        self.crew.remove(worker)
        worker.end()
        code = worker.process.returncode
        job, worker.job = worker.job, None
        if job is not None:
            for spec in job.specs:
                result = self.store.result(spec.key)
                if result is not None and spec.key not in worker.announced:
                    self.tell(worker, Event(result.status, spec.key, message=result.error or ""))
            rest = self.store.missing(job.specs)
            if rest and code != TIMEOUT_EXIT:
                current = [spec for spec in rest if spec.key == worker.current]
                key = (current or rest)[0].key
                again = self.tally.count(key)
                cause = died(code)
                if again:
                    self.tell(worker, Event("restart", key, message=cause))
                else:
                    self.give_up(worker, next(s for s in rest if s.key == key), cause)
                    rest = self.store.missing(job.specs)
            if rest:
                self.pending.appendleft(Job(job.name, tuple(rest)))
        if self.pending:
            self.hire()

    def give_up(self, worker: Worker, spec: Any, cause: str) -> None:
        deaths = self.tally.deaths[spec.key]
        message = f"Its worker died {deaths} times: {cause}."
        self.store.save(unfinished(spec, self.setup.suite, "failed", message))
        self.tell(worker, Event("failed", spec.key, message=message))


def died(code: int | None) -> str:
    """Why a process ended, in words."""
    if code == -9:
        return "killed, perhaps for want of memory"
    if code is not None and code < 0:
        return f"ended by signal {-code}"
    return f"ended with exit code {code}"
