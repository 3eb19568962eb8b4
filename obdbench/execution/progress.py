"""One progress display for every executor: live lines on a terminal, plain ones in a log.

It keeps within 80 columns, and on a terminal within its height.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from obdbench.execution.events import FINAL_KINDS, Event
from obdbench.execution.job import relative_cost
from obdbench.experiments.spec import TrialSpec, format_params

WIDTH = 80
PLAIN_SECONDS = 15.0
DRAW_SECONDS = 0.25
MARKS = {"ok": "done", "failed": "FAILED", "timeout": "TIMEOUT"}
STYLES = {"ok": "green", "failed": "bold red", "timeout": "bold yellow", "restart": "yellow"}


@dataclass
class Line:
    """What is known of one trial that runs."""

    spec: TrialSpec
    began: float
    step: int = 0
    steps: int = 0
    loss: float | None = None
    rate: float | None = None
    score: float | None = None


class ProgressDisplay:
    """Feed it events; use it as a context manager around a run."""

    def __init__(
        self, suite: str, specs: Sequence[TrialSpec], console: Console | None = None
    ) -> None:
        self.suite = suite
        self.specs = {spec.key: spec for spec in specs}
        self.console = console or Console(file=sys.stderr)
        self.running: dict[str, Line] = {}
        self.finished: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.best: tuple[float, str] | None = None
        self.began = time.monotonic()
        self._total = sum(map(relative_cost, specs)) or 1.0
        self._done = 0.0
        self._drawn = self.began
        self._live: Live | None = None

    @property
    def live(self) -> bool:
        """Whether lines are redrawn in place."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def __enter__(self) -> ProgressDisplay:
        self.began = self._drawn = time.monotonic()
        if self.live:
            self._live = Live(
                console=self.console, auto_refresh=False, transient=True, get_renderable=self.draw
            )
            self._live.start()
        else:
            self.print(f"{self.suite}: {len(self.specs)} trials")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self.print(self.headline())

    def on_event(self, event: Event) -> None:
        """Take one piece of news."""
        spec = self.specs.get(event.key)
        if spec is None:
            if event.message:
                self.print(event.message)
            return
        if event.kind in FINAL_KINDS:
            self._finish(event, spec)
            return
        line = self.running.setdefault(event.key, Line(spec, time.monotonic()))
        if event.kind == "step":
            line.step, line.steps = event.step, event.steps
            line.loss, line.rate = event.loss, event.steps_per_second
        elif event.kind == "score":
            line.score = event.score
        elif event.kind == "restart":
            self.running.pop(event.key)
            self.print(f"again    {label(spec)}: {event.message}", "restart")

    def _finish(self, event: Event, spec: TrialSpec) -> None:
        line = self.running.pop(event.key, None)
        if event.key in self.finished:
            return
        self.finished[event.key] = event.kind
        self._done += relative_cost(spec)
        told = []
        if event.kind == "ok":
            if event.score is not None:
                told.append(f"score {event.score:.1f}")
                if self.best is None or event.score > self.best[0]:
                    self.best = event.score, label(spec)
            if line is not None:
                told.append(f"in {clock(time.monotonic() - line.began)}")
        else:
            self.errors[event.key] = event.message
            told.append(event.message)
        mark, rest = f"{MARKS[event.kind]:<8} ", "".join(f" · {part}" for part in told)
        room = max(30, min(WIDTH, self.console.width) - 1 - len(mark) - len(rest))
        self.print(f"{mark}{shorten(label(spec), room)}{rest}", event.kind)

    def refresh(self) -> None:
        """Redraw, or write a plain line now and then."""
        now = time.monotonic()
        if self._live is not None:
            if now - self._drawn >= DRAW_SECONDS:
                self._drawn = now
                self._live.refresh()
        elif now - self._drawn >= PLAIN_SECONDS:
            self._drawn = now
            self.print(self.headline())
            for line in self.running.values():
                self.print(f"  {describe(line)}")

    def print(self, text: str, kind: str = "") -> None:
        """A line that stays."""
        if self.live:
            text = shorten(text, self.console.width - 1)
        self.console.print(Text(text, style=STYLES.get(kind, "")), soft_wrap=True)

    def headline(self) -> str:
        """Counts, times and the best score, in one line."""
        kinds = list(self.finished.values())
        parts = [f"{len(kinds)}/{len(self.specs)} trials"]
        failed = sum(kind != "ok" for kind in kinds)
        if failed:
            parts.append(f"{failed} failed")
        if self.running:
            parts.append(f"{len(self.running)} running")
        elapsed = time.monotonic() - self.began
        parts.append(clock(elapsed))
        share = self.share()
        if 0.02 < share < 1 and self.running:
            parts.append(f"ETA {clock(elapsed * (1 - share) / share)}")
        if self.best is not None:
            parts.append(f"best {self.best[0]:.1f} {self.best[1]}")
        return shorten(f"{self.suite}: " + " · ".join(parts), WIDTH)

    def share(self) -> float:
        """Part of the work that is done, 0 to 1."""
        partial = sum(
            relative_cost(line.spec) * line.step / line.steps
            for line in self.running.values()
            if line.steps
        )
        return min(1.0, (self._done + partial) / self._total)

    def draw(self) -> Any:
        """What the terminal shows now."""
        width = min(WIDTH, self.console.width) - 1
        rows = max(1, self.console.height - 4)
        lines = [Text(shorten(self.headline(), width), style="bold")]
        filled = int(self.share() * width)
        lines.append(Text("━" * filled, style="green") + Text("━" * (width - filled), style="dim"))
        shown = list(self.running.values())[:rows]
        lines += [Text(shorten(describe(line), width)) for line in shown]
        if len(self.running) > rows:
            lines.append(Text(f"and {len(self.running) - rows} more", style="dim"))
        return Group(*lines)


def label(spec: TrialSpec) -> str:
    """A trial's name in few characters."""
    dataset = spec.dataset.rsplit("/", 1)[-1]
    for long, short in (("medium-replay", "m-r"), ("medium-expert", "m-e"), ("medium", "m")):
        dataset = dataset.replace(long, short)
    protocol = "" if spec.protocol == "default" else f" {spec.protocol}"
    pairs = f" {spec.settings.pairs}" if spec.protocol == "size" else ""
    return f"{dataset} {spec.objective}{format_params(spec.objective_params)}{protocol}{pairs}"


def describe(line: Line) -> str:
    """The state of one running trial, the label cut so that the figures fit."""
    parts = []
    if line.steps and line.step:
        parts.append(f"{line.step}/{line.steps}")
        if line.step == line.steps:
            parts.append("scoring")
        elif line.rate:
            parts.append(f"{line.rate:.2g}/s")
            parts.append(f"ETA {clock((line.steps - line.step) / line.rate)}")
        if line.loss is not None:
            parts.append(f"loss {line.loss:.3g}")
    else:
        parts.append(f"preparing {clock(time.monotonic() - line.began)}")
    if line.score is not None:
        parts.append(f"last point {line.score:.1f}")
    figures = " ".join(parts)
    return f"{shorten(label(line.spec), max(12, WIDTH - 3 - len(figures)))} {figures}"


def clock(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shorten(text: str, width: int) -> str:
    """Cut to a width, visibly."""
    text = " ".join(text.splitlines())
    return text if len(text) <= width else f"{text[: width - 1]}…"
