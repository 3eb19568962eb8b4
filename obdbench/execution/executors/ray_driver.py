"""The driver's side of the mailbox: delivers news and files, and settles what Tune gave up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from obdbench.errors import ObdError
from obdbench.execution.events import FINAL, Event
from obdbench.execution.executors.local import Audience, FailFastError
from obdbench.execution.executors.ray_mailbox import Parcel, deliver
from obdbench.execution.job import MAX_DEATHS, Job
from obdbench.execution.trial import reason, unfinished
from obdbench.results.store import ResultStore

PUMP_SECONDS = 0.2


@dataclass
class Desk:
    """The driver's side of the mailbox: a thread that delivers news and files."""

    take: Callable[[], tuple[list[Event], list[Parcel]]]
    halt: Callable[[], object]
    store: ResultStore
    audience: Audience
    fail_fast: bool
    jobs: dict[str, Job]
    current: dict[str, str] = field(default_factory=dict)  # by job: the trial it works on
    finished: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    stop: Exception | None = None
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.job_of = {spec.key: job.name for job in self.jobs.values() for spec in job.specs}

    def __enter__(self) -> Desk:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                self.pump()
            except Exception as error:
                self.end(error)
                return
            self.audience.tick()
            time.sleep(PUMP_SECONDS)

    def end(self, error: Exception) -> None:
        """Remember why, and ask Tune's loop to stop."""
        if self.stop is None:
            self.stop = error
            with suppress(Exception):
                self.halt()

    def pump(self) -> None:
        """Deliver what is in the mailbox."""
        events, parcels = self.take()
        deliver(self.store, parcels)
        for event in events:
            self.tell(event)

    def tell(self, event: Event) -> None:
        if event.kind == "fatal":
            raise ObdError(event.message)
        if event.key.startswith("job:"):
            job = event.key.removeprefix("job:")
            if event.kind == "note":
                self.given_up.add(job)
                return
            event = replace(event, key=self.current.get(job, self.jobs[job].specs[0].key))
        elif event.key in self.job_of:
            self.current[self.job_of[event.key]] = event.key
        if event.kind in FINAL:
            self.finished.add(event.key)
        self.audience.handle(event)
        if self.fail_fast and event.kind in ("failed", "timeout"):
            raise FailFastError(event.message)

    def settle(self, failure: Exception | None) -> None:
        """After Tune ended: deliver the rest, and give up trials that were lost too often."""
        if self.stop is None:
            with suppress(Exception):
                self.pump()
        if isinstance(self.stop, ObdError | FailFastError):
            raise self.stop
        if (cause := self.stop or failure) is not None:
            raise ObdError(
                f"Ray failed: {reason(cause).rstrip('.')}.",
                "Go on with --resume, or use --executor local.",
            ) from cause
        for name, job in self.jobs.items():
            for spec in job.specs:
                result = self.store.result(spec.key)
                if result is not None and spec.key not in self.finished:
                    self.tell(Event(result.status, spec.key, message=result.error or ""))
            missing = self.store.missing(job.specs)
            if missing and len(missing) == len(job.specs):  # nothing came of handing it out
                key = self.current.get(name, missing[0].key)
                spec = next((spec for spec in missing if spec.key == key), missing[0])
                message = f"Its process or node was lost {MAX_DEATHS} times."
                self.store.save(unfinished(spec, self.store.suite, "failed", message))
                self.tell(Event("failed", spec.key, message=message))
