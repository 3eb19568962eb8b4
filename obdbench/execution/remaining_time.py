"""The remaining time of a run, from its distillations and the episodes that score its trials.

Trials of one job share a distillation, which counts once. The time of a unit of distillation and of
an episode comes from the events of the run; before the first of them, from published results.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from obdbench.execution.events import FINAL_KINDS, Event
from obdbench.execution.trial_cost import (
    EPISODE_SECONDS,
    UNIT_SECONDS,
    count_episodes,
    count_points,
    distillation_cost,
)
from obdbench.experiments.spec import TrialSpec


class RemainingTime:
    """Estimates how much of a run, and of each trial, remains.

    The distillations of the keys ``finished`` are not repeated and cost nothing. Outer steps of an
    earlier process, from whose snapshot a distillation continues, are not counted.
    """

    def __init__(self, specs: Sequence[TrialSpec], finished: Collection[str] = ()) -> None:
        self._specs = {spec.key: spec for spec in specs}
        self._units = {spec.distill_key: distillation_cost(spec) for spec in specs}
        self._units.update(dict.fromkeys(self._units.keys() & finished, 0.0))
        self._episodes = {spec.key: count_episodes(spec) for spec in specs}
        self._points = {spec.key: max(1, count_points(spec)) for spec in specs}
        self._distilled = dict.fromkeys(self._units, 0.0)  # share, 0 to 1
        self._resumed: dict[str, float] = {}  # share that an earlier process has distilled
        self._scored = dict.fromkeys(self._specs, 0.0)  # share, 0 to 1
        self._unit_seconds: dict[str, float] = {}  # by distillation
        self._scoring_seconds = 0.0
        self._timed_episodes = 0.0

    def on_event(self, event: Event) -> None:
        """Take account of a step, a scored point or the end of a trial."""
        spec = self._specs[event.key]
        distillation = spec.distill_key
        if event.kind in FINAL_KINDS:
            self._distilled[distillation] = self._scored[spec.key] = 1.0
        elif event.kind == "step" and event.steps:
            self._resumed.setdefault(distillation, max(0, event.step - 1) / event.steps)
            self._distilled[distillation] = event.step / event.steps
            units = self._units[distillation] / event.steps
            if event.steps_per_second and units:
                self._unit_seconds[distillation] = 1.0 / (event.steps_per_second * units)
        elif event.kind == "score":
            share = 1.0 / self._points[spec.key]
            self._scored[spec.key] = min(1.0, self._scored[spec.key] + share)
            if event.seconds is not None:
                self._scoring_seconds += event.seconds
                self._timed_episodes += share * self._episodes[spec.key]

    @property
    def unit_seconds(self) -> float:
        """Seconds per unit of distillation: the median over distillations."""
        return statistics.median(self._unit_seconds.values() or [UNIT_SECONDS])

    @property
    def episode_seconds(self) -> float:
        """Seconds per episode: the mean over scored points."""
        if not self._timed_episodes:
            return EPISODE_SECONDS
        return self._scoring_seconds / self._timed_episodes

    def share_done(self) -> float:
        """Return the share of the expected working time of the run that is done, 0 to 1."""
        unit, episode = self.unit_seconds, self.episode_seconds
        total = done = 0.0
        for key, units in self._units.items():
            resumed = self._resumed.get(key, 0.0)
            total += unit * units * (1.0 - resumed)
            done += unit * units * max(0.0, self._distilled[key] - resumed)
        for key, episodes in self._episodes.items():
            total += episode * episodes
            done += episode * episodes * self._scored[key]
        return min(1.0, done / total) if total else 1.0

    def trial_seconds(self, spec: TrialSpec) -> float:
        """Return the expected seconds that a running trial still takes, scoring included."""
        units = self._units[spec.distill_key] * (1.0 - self._distilled[spec.distill_key])
        episodes = self._episodes[spec.key] * (1.0 - self._scored[spec.key])
        unit = self._unit_seconds.get(spec.distill_key, self.unit_seconds)
        return unit * units + self.episode_seconds * episodes
