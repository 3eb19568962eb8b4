"""What a running trial tells the display, whichever executor runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["start", "step", "score", "ok", "failed", "timeout", "restart", "fatal", "note"]
FINAL: tuple[Kind, ...] = ("ok", "failed", "timeout")


@dataclass(frozen=True)
class Event:
    """One piece of news about a trial."""

    kind: Kind
    key: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    rate: float | None = None  # outer steps a second
    score: float | None = None  # normalized return, mean over seeds
    message: str = ""


Emit = Callable[[Event], None]


class Throttle:
    """Passes every event but steps, of which at most one in ``seconds``."""

    def __init__(self, emit: Emit, seconds: float) -> None:
        self._emit = emit
        self._seconds = seconds
        self._last = -float("inf")

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "step":
            if now - self._last < self._seconds:
                return
            self._last = now
        self._emit(event)
