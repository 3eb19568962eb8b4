"""The interface of executors, and what they share: forwarding events and counting deaths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from obdbench.errors import ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import FINAL_KINDS, Event, EventHandler
from obdbench.execution.job import Job
from obdbench.experiments.spec import TrialSpec
from obdbench.results.headline import mean_headline_score
from obdbench.results.record import Result
from obdbench.results.store import ResultStore

MAX_DEATHS = 3


# A function that runs jobs and returns when every trial has a result. It passes the events of the
# run to the handler and calls the last argument, which refreshes the display, several times per
# second. It raises KeyboardInterrupt, FailFastError, and ObdError where no trial can be run (full
# disk, missing plugin). No process outlives the call.
Executor = Callable[[Sequence[Job], ExecutionConfig, EventHandler, Callable[[], None]], None]


class FailFastError(Exception):
    """A trial failed and ``fail_fast`` ends the run."""


class RunEvents:
    """Forwards the events of a run to ``on_event``, and ends the run where an event asks for it."""

    def __init__(self, config: ExecutionConfig, store: ResultStore, on_event: EventHandler) -> None:
        self.fail_fast = config.fail_fast
        self.store = store
        self.on_event = on_event
        self.finished: set[str] = set()  # keys of the trials whose last event was forwarded
        self.deaths: Counter[str] = Counter()  # by key: how often the worker of the trial died

    def forward(self, event: Event) -> None:
        """Forward one event; raises on fatal errors, and on failures if ``fail_fast`` is set."""
        if event.kind == "fatal":
            raise ObdError(event.message)
        if event.kind in FINAL_KINDS:
            self.finished.add(event.key)
        self.on_event(event)
        if self.fail_fast and event.kind in ("failed", "timeout"):
            raise FailFastError(event.message)

    def forward_stored_results(self, specs: Sequence[TrialSpec]) -> list[TrialSpec]:
        """Report results whose last event was lost; returns the trials that have no result."""
        missing = []
        for spec in specs:
            if spec.key in self.finished:
                continue
            result = self.store.read_result(spec.key)
            if result is None:
                missing.append(spec)
            else:
                score, message = mean_headline_score(result), result.error or ""
                self.forward(Event(result.status, spec.key, score=score, message=message))
        return missing

    def count_death(
        self, missing: Sequence[TrialSpec], current_key: str, cause: str, output: str = ""
    ) -> list[TrialSpec]:
        """Count the death of a worker against the trial it ran; returns the trials to run again.

        ``missing`` are the trials of its job without a result. A trial whose worker died
        :data:`MAX_DEATHS` times becomes a failed result, with the worker's ``output`` as its log.
        """
        if not missing:
            return []
        spec = next((spec for spec in missing if spec.key == current_key), missing[0])
        self.deaths[spec.key] += 1
        if self.deaths[spec.key] < MAX_DEATHS:
            self.forward(Event("restart", spec.key, message=cause))
            return list(missing)
        message = f"Its worker died {MAX_DEATHS} times: {cause}."
        result = Result.unfinished(spec, self.store.suite, "failed", message)
        self.store.save(result, traceback=output or None)
        self.forward(Event("failed", spec.key, message=message))
        return [other for other in missing if other.key != spec.key]
