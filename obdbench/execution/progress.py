"""The progress display of a run: live lines on a terminal, plain lines in a log.

Lines of running trials have at most 80 columns; on a terminal, the display fits its height.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import count_noun
from obdbench.execution.events import FINAL_KINDS, Event
from obdbench.execution.remaining_time import RemainingTime
from obdbench.experiments.spec import TrialSpec, format_params

WIDTH = 80
PLAIN_SECONDS = 15.0
DRAW_SECONDS = 0.25
MARKS = {"ok": "done", "failed": "FAILED", "timeout": "TIMEOUT"}
STYLES = {"ok": "green", "failed": "bold red", "timeout": "bold yellow", "restart": "yellow"}


@dataclass
class TrialProgress:
    """The progress of one running trial."""

    spec: TrialSpec
    started: float
    last: Event = field(default_factory=lambda: Event("step"))  # the latest of this kind
    score: float | None = None
    is_scoring: bool = False
    scoring_seconds: float = 0.0
    remaining_seconds: float | None = None  # expected, scoring included


class ProgressDisplay:
    """Shows the events of a run; a context manager around the run."""

    def __init__(
        self,
        suite: str,
        specs: Sequence[TrialSpec],
        console: Console | None = None,
        interval: float | None = None,  # seconds between updates
        finished: Collection[str] = (),  # keys of distillations that are not repeated
    ) -> None:
        self.suite = suite
        self.specs = {spec.key: spec for spec in specs}
        self.console = console or Console(file=sys.stderr)
        self.running: dict[str, TrialProgress] = {}
        self.finished: dict[str, str] = {}
        self.best: tuple[float, str] | None = None
        self.started = time.monotonic()
        self.remaining_time = RemainingTime(specs, finished)
        self.trial_seconds = 0.0  # of finished trials, added up over workers
        self.scoring_seconds = 0.0
        self.interval = interval
        self._updated = self.started
        self._live: Live | None = None

    @property
    def live(self) -> bool:
        """Whether lines are redrawn in place."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def __enter__(self) -> ProgressDisplay:
        self.started = self._updated = time.monotonic()
        if self.live:
            self._live = Live(
                console=self.console, auto_refresh=False, transient=True, get_renderable=self.draw
            )
            self._live.start()
        else:
            self.print(f"{self.suite}: {count_noun(len(self.specs), 'trial')}")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self.print(self.summary_line())
        self.print(self.time_line())

    def on_event(self, event: Event) -> None:
        """Update the progress of the trial that an event is about."""
        spec = self.specs.get(event.key)
        if spec is None:
            if event.message:
                self.print(event.message)
            return
        self.remaining_time.on_event(event)
        if event.kind in FINAL_KINDS:
            self._finish(event, spec)
            return
        line = self.running.setdefault(event.key, TrialProgress(spec, time.monotonic()))
        line.is_scoring = event.kind == "scoring"
        if event.kind == "step":
            line.last = event
        elif event.kind == "score":
            line.score = event.score
            line.scoring_seconds += event.seconds or 0.0
        elif event.kind == "restart":
            self.running.pop(event.key)
            self.print(f"restart  {label_trial(spec)}: {event.message}", "restart")
        if line.last.step:
            line.remaining_seconds = self.remaining_time.trial_seconds(spec)

    def _finish(self, event: Event, spec: TrialSpec) -> None:
        line = self.running.pop(event.key, None)
        if event.key in self.finished:
            return
        self.finished[event.key] = event.kind
        facts = []
        times = None if line is None else self._add_times(line)
        if event.kind == "ok":
            if event.score is not None:
                facts.append(f"score {event.score:.1f}")
                if self.best is None or event.score > self.best[0]:
                    self.best = event.score, label_trial(spec)
            if times is not None:
                facts.append(times)
        else:
            facts.append(event.message)
        count = f"{len(self.finished)}/{len(self.specs)}"
        mark, rest = f"{MARKS[event.kind]:<8} {count} ", "".join(f" · {fact}" for fact in facts)
        width = max(18, min(WIDTH, self.console.width) - 1 - len(mark) - len(rest))
        self.print(f"{mark}{label_trial(spec, width)}{rest}", event.kind)

    def _add_times(self, line: TrialProgress) -> str:
        """Add the time of a finished trial to that of the run, and describe it."""
        seconds = time.monotonic() - line.started
        self.trial_seconds += seconds
        self.scoring_seconds += min(seconds, line.scoring_seconds)
        return f"{format_clock(seconds)} (scoring {format_clock(line.scoring_seconds)})"

    def refresh(self) -> None:
        """Redraw the live display, or print plain lines, if the interval has passed."""
        default = PLAIN_SECONDS if self._live is None else DRAW_SECONDS
        now = time.monotonic()
        if now - self._updated < (default if self.interval is None else self.interval):
            return
        self._updated = now
        if self._live is not None:
            self._live.refresh()
            return
        self.print(self.summary_line())
        for trial in self.running.values():
            self.print(f"  {describe_trial(trial)}")

    def print(self, text: str, kind: str = "") -> None:
        """Print a line that is not redrawn."""
        if self.live:
            text = truncate(text, self.console.width - 1)
        self.console.print(Text(text, style=STYLES.get(kind, "")), soft_wrap=True)

    def summary_line(self) -> str:
        """Return counts, times and the best score in one line."""
        kinds = list(self.finished.values())
        parts = [f"{len(kinds)}/{len(self.specs)} trials"]
        failed = sum(kind != "ok" for kind in kinds)
        if failed:
            parts.append(f"{failed} failed")
        if self.running:
            parts.append(f"{len(self.running)} running")
        elapsed = time.monotonic() - self.started
        parts.append(format_clock(elapsed))
        share = self.remaining_time.share_done()
        if 0.02 < share < 1 and self.running:
            longest = max(trial.remaining_seconds or 0.0 for trial in self.running.values())
            parts.append(f"ETA {format_clock(max(elapsed * (1 - share) / share, longest))}")
        if self.best is not None:
            parts.append(f"best {self.best[0]:.1f} {self.best[1]}")
        return truncate(f"{self.suite}: " + " · ".join(parts), WIDTH)

    def time_line(self) -> str:
        """Return the elapsed time, and the time of finished trials by what it was spent on."""
        elapsed = format_clock(time.monotonic() - self.started)
        distilling = format_clock(self.trial_seconds - self.scoring_seconds)
        scoring = format_clock(self.scoring_seconds)
        return (
            f"time: {elapsed} elapsed; finished trials: distilling {distilling}, scoring {scoring}"
        )

    def draw(self) -> Any:
        """Return what the terminal shows."""
        width = min(WIDTH, self.console.width) - 1
        rows = max(1, self.console.height - 4)
        lines = [Text(truncate(self.summary_line(), width), style="bold")]
        filled = int(self.remaining_time.share_done() * width)
        lines.append(Text("━" * filled, style="green") + Text("━" * (width - filled), style="dim"))
        shown = list(self.running.values())[:rows]
        lines += [Text(truncate(describe_trial(line), width)) for line in shown]
        if len(self.running) > rows:
            lines.append(Text(f"and {len(self.running) - rows} more", style="dim"))
        return Group(*lines)


def label_trial(spec: TrialSpec, width: int | None = None) -> str:
    """Return a short name of a trial; one above the width loses version and end of the dataset."""
    identifier = DatasetId(spec.dataset)
    is_file = identifier.source == "file"
    dataset = identifier.short_name if is_file else spec.dataset.rsplit("/", 1)[-1]
    for long, short in (("medium-replay", "m-r"), ("medium-expert", "m-e"), ("medium", "m")):
        dataset = dataset.replace(long, short)
    protocol = "" if spec.protocol == "default" else f" {spec.protocol}"
    pairs = f" {spec.settings.pairs}" if spec.protocol == "size" else ""
    method = f"{spec.objective}{format_params(spec.objective_params)}{protocol}{pairs}"
    if width is None or len(dataset) + len(method) < width:
        return f"{dataset} {method}"
    dataset = re.sub(r"-v\d+$", "", dataset)
    dataset = truncate(dataset, max(width - len(method) - 1, width // 2))
    return truncate(f"{dataset} {method}", width)


def describe_trial(trial: TrialProgress) -> str:
    """Describe a running trial; its name is cut so that the numbers fit."""
    parts, last = [], trial.last
    if last.steps and last.step:
        parts.append(f"{last.step}/{last.steps}")
        if trial.is_scoring or last.step == last.steps:
            parts.append("scoring")
        elif last.steps_per_second:
            parts.append(f"{last.steps_per_second:.2g}/s")
        if trial.remaining_seconds is not None:
            parts.append(f"ETA {format_clock(trial.remaining_seconds)}")
        if last.loss is not None:
            parts.append(f"loss {last.loss:.3g}")
        if last.missed_variance is not None:
            parts.append(f"missed {format_share(last.missed_variance)}")
    else:
        phase = "scoring" if trial.is_scoring else "preparing"
        parts.append(f"{phase} {format_clock(time.monotonic() - trial.started)}")
    if trial.score is not None:
        parts.append(f"last point {trial.score:.1f}")
    numbers = " ".join(parts)
    return f"{label_trial(trial.spec, max(12, WIDTH - 3 - len(numbers)))} {numbers}"


def format_share(share: float) -> str:
    """Format a share as a percentage of at most five characters."""
    return f"{share:.0%}" if share < 10 else ">999%"


def format_clock(seconds: float) -> str:
    """Format seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def truncate(text: str, width: int) -> str:
    """Truncate text to a width, marked by an ellipsis."""
    text = " ".join(text.splitlines())
    return text if len(text) <= width else f"{text[: width - 1]}…"
