"""A pool of simulated episodes, grown where the wanted moments ask for more.

The first half is drawn blindly: calm episodes of the dataset's own teacher, limping and disturbed
ones of all teachers of the task. Then the disturbances are repeated, with fresh noise, that led to
the episodes of which the fit would take more if it could. Rare postures, such as a dragged leg,
would otherwise take a pool many times as large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from obdbench.collection.mixture import Disturbance, DisturbedTeacher, moment_sums, most_wanted
from obdbench.datasets.dataset import Array, Standardizer
from obdbench.datasets.identifier import DatasetId
from obdbench.tasks.rollout import Episodes, run_episodes
from obdbench.tasks.simulator import RULES
from obdbench.tasks.task import Task
from obdbench.teachers.published import load_published_teacher

LEVELS = ("medium-replay", "medium", "medium-expert")
FIELDS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
CALM_SLOTS = 24
LIMPING_SLOTS = 12
DISTURBED_SLOTS = 24
REPEATED_SLOTS = 96
BLIND_SHARE = 0.5
EXCURSION = 5.0


@dataclass(frozen=True)
class Episode:
    """What was recorded, and how it came about: whose actions, under which disturbance."""

    columns: dict[str, Array]
    level: str
    noise: Disturbance


@dataclass
class Pool:
    """Episodes for the stand-in of one dataset, in a fixed order for a fixed seed."""

    name: str
    task: Task
    wanted: Standardizer
    seed: int
    episodes: list[Episode] = field(default_factory=list)
    _sums: list[Array] = field(default_factory=list)
    _transitions: int = 0

    def __post_init__(self) -> None:
        self._seeds = np.random.SeedSequence([self.seed, *self.name.encode()])
        self._teachers = {
            level: load_published_teacher(f"{self.task.name}-{level}-v2") for level in LEVELS
        }

    @property
    def sums(self) -> Array:
        """Per episode, the moment sums that :func:`obdbench.collection.mixture.select` takes."""
        return np.concatenate(self._sums)

    @property
    def lengths(self) -> Array:
        """Transitions of each episode."""
        return np.array([len(episode.columns["rewards"]) for episode in self.episodes])

    def fill(self, transitions: int, size: int) -> None:
        """Simulate ``transitions`` steps, for a dataset of ``size`` of them."""
        own = DatasetId(self.name).level
        while self._transitions < BLIND_SHARE * transitions:
            rng = self._rng()
            self.grow(own, Disturbance.calm(CALM_SLOTS, self.task.action_size, rng))
            for level in LEVELS:
                self.grow(level, Disturbance.limp(LIMPING_SLOTS, self.task.action_size, rng))
                self.grow(level, Disturbance.draw(DISTURBED_SLOTS, self.task.action_size, rng))
        while self._transitions < transitions:
            wanted = most_wanted(self.sums, self.lengths, size, REPEATED_SLOTS)
            for level in LEVELS:
                same = [self.episodes[i].noise for i in wanted if self.episodes[i].level == level]
                if same:
                    self.grow(level, Disturbance.stack(same))

    def grow(self, level: str, noise: Disturbance) -> None:
        """Run one episode a row of ``noise`` with the teacher of a level."""
        rng = self._rng()
        act = DisturbedTeacher(self._teachers[level], noise, rng)
        seeds = rng.integers(2**31, size=len(noise)).tolist()
        run = run_episodes(act, self.task, seeds, record=True)
        for slot, columns in pieces(run, self.task, self.wanted):
            self.episodes.append(Episode(columns, level, noise.row(slot)))
            self._sums.append(moment_sums([columns["observations"]], self.wanted))
        self._transitions += int(run.lengths.sum())

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self._seeds.spawn(1)[0])


def pieces(
    run: Episodes, task: Task, wanted: Standardizer
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Recorded episodes; of a task that ends none itself, in two parts where they get lost.

    A cheetah that has turned over runs on upside down until the time is up. What it does before a
    joint leaves the genuine range and what it does after are offered apart.
    """
    joints = slice(0, len(wanted.mean) // 2)
    for slot, observations in enumerate(run.observations):
        z = (observations[:, joints] - wanted.mean[joints]) / wanted.std[joints]
        lost = np.flatnonzero((np.abs(z) > EXCURSION).any(axis=1))
        cuts = lost[:1] if RULES[task.env_id].endless else lost[:0]
        recorded = {name: getattr(run, name)[slot] for name in FIELDS if name != "timeouts"}
        for rows in np.split(np.arange(len(observations)), cuts):
            if len(rows):
                piece = {name: column[rows] for name, column in recorded.items()}
                piece["timeouts"] = np.zeros(len(rows), dtype=bool)
                piece["timeouts"][-1] = not piece["terminals"][-1]
                yield slot, piece
