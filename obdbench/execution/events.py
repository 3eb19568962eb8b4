"""Events of a running trial, the same for every executor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

EventKind = Literal[
    "start", "step", "scoring", "score", "ok", "failed", "timeout", "restart", "fatal"
]
FINAL_KINDS: tuple[EventKind, ...] = ("ok", "failed", "timeout")


@dataclass(frozen=True)
class Event:
    """What happened to a trial; the fields that matter depend on ``kind``."""

    kind: EventKind
    key: str = ""  # key of the trial
    step: int = 0  # outer steps taken
    steps: int = 0  # outer steps in total
    loss: float | None = None
    steps_per_second: float | None = None
    missed_variance: float | None = None  # latest checks of real students, mean over seeds
    score: float | None = None  # normalized return, mean over seeds and arms
    seconds: float | None = None  # that scoring the point took
    message: str = ""


EventHandler = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Do nothing with an event."""


class StepThrottle:
    """Pass events on; of ``step`` events, one in ``seconds`` and that of the last step."""

    def __init__(self, on_event: EventHandler, seconds: float) -> None:
        self._on_event = on_event
        self._seconds = seconds
        self._last = -float("inf")

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "step":
            if now - self._last < self._seconds and event.step != event.steps:
                return
            self._last = now
        self._on_event(event)
