"""Simulated episodes from which a stand-in is selected.

The first half has random disturbances: low noise with the teacher of the dataset's level, and joint
offsets and other disturbances with all teachers of the task. The second half repeats, with new
noise, the disturbances of the episodes that would improve the selection most. Without this
repetition, rare postures such as a dragged leg would take many times as many episodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from obdbench.collection.mixture import (
    Disturbance,
    DisturbedTeacher,
    moment_sums,
    most_useful_episodes,
)
from obdbench.datasets.dataset import Array, Standardizer
from obdbench.datasets.identifier import DatasetId
from obdbench.tasks.rollout import Episodes, run_episodes
from obdbench.tasks.simulator import TASK_RULES
from obdbench.tasks.task import Task
from obdbench.teachers.published import load_published_teacher

LEVELS = ("medium-replay", "medium", "medium-expert")
FIELDS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
LOW_NOISE_SLOTS = 24
JOINT_OFFSET_SLOTS = 12
DISTURBED_SLOTS = 24
REPEATED_SLOTS = 96
RANDOM_SHARE = 0.5
EXCURSION = 5.0


@dataclass(frozen=True)
class Episode:
    """A recorded episode, the level of its teacher, and its disturbance."""

    columns: dict[str, Array]
    level: str
    noise: Disturbance


@dataclass
class Candidates:
    """Episodes for the stand-in of one dataset, equal for equal seeds."""

    name: str
    task: Task
    target: Standardizer
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
        level_of_dataset = DatasetId(self.name).level
        while self._transitions < RANDOM_SHARE * transitions:
            rng = self._rng()
            self.simulate(
                level_of_dataset, Disturbance.low_noise(LOW_NOISE_SLOTS, self.task.action_size, rng)
            )
            for level in LEVELS:
                self.simulate(
                    level, Disturbance.joint_offset(JOINT_OFFSET_SLOTS, self.task.action_size, rng)
                )
                self.simulate(level, Disturbance.draw(DISTURBED_SLOTS, self.task.action_size, rng))
        while self._transitions < transitions:
            repeated = most_useful_episodes(self.sums, self.lengths, size, REPEATED_SLOTS)
            for level in LEVELS:
                noises = [
                    self.episodes[i].noise for i in repeated if self.episodes[i].level == level
                ]
                if noises:
                    self.simulate(level, Disturbance.stack(noises))

    def simulate(self, level: str, noise: Disturbance) -> None:
        """Run one episode per row of ``noise`` with the teacher of a level."""
        rng = self._rng()
        act = DisturbedTeacher(self._teachers[level], noise, rng)
        seeds = rng.integers(2**31, size=len(noise)).tolist()
        run = run_episodes(act, self.task, seeds, record=True)
        for slot, columns in split_at_excursion(run, self.task, self.target):
            self.episodes.append(Episode(columns, level, noise.row(slot)))
            self._sums.append(moment_sums([columns["observations"]], self.target))
        self._transitions += int(run.lengths.sum())

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self._seeds.spawn(1)[0])


def split_at_excursion(
    run: Episodes, task: Task, target: Standardizer
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Recorded episodes; those of a task that never terminates are split at the first excursion.

    A cheetah that has turned over continues upside down until the time limit. The steps before a
    joint leaves the genuine range and the steps after it become two candidates.
    """
    joints = slice(0, len(target.mean) // 2)
    for slot, observations in enumerate(run.observations):
        z = (observations[:, joints] - target.mean[joints]) / target.std[joints]
        excursions = np.flatnonzero((np.abs(z) > EXCURSION).any(axis=1))
        boundary = excursions[:1] if TASK_RULES[task.env_id].never_terminates else excursions[:0]
        recorded = {name: getattr(run, name)[slot] for name in FIELDS if name != "timeouts"}
        for rows in np.split(np.arange(len(observations)), boundary):
            if len(rows):
                columns = {name: column[rows] for name, column in recorded.items()}
                columns["timeouts"] = np.zeros(len(rows), dtype=bool)
                columns["timeouts"][-1] = not columns["terminals"][-1]
                yield slot, columns
