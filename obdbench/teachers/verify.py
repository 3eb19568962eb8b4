"""Whether teachers do here what they did where they were published.

The score of a deterministic teacher over a few episodes is compared with the row "OffRL (whole)"
of the OBD paper's Table 1 (Lei et al., 2024, arXiv 2410.22728). Agreement shows at once that the
weights, the standardization, the environments and the normalization are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from obdbench.datasets.dataset import Array
from obdbench.tasks.rollout import run_episodes
from obdbench.tasks.task import Task, get_task, normalized_return
from obdbench.teachers.checkpoint import load_published, published
from obdbench.teachers.teacher import Teacher

EPISODES = 20
EACH_WITHIN = 15.0
MEAN_WITHIN = 5.0


@dataclass(frozen=True)
class Comparison:
    """A teacher's measured score beside the printed one."""

    name: str
    measured: float
    printed: float

    @property
    def difference(self) -> float:
        """Measured minus printed."""
        return self.measured - self.printed

    @property
    def holds(self) -> bool:
        """Whether the two are within :data:`EACH_WITHIN` points."""
        return abs(self.difference) <= EACH_WITHIN


def scores(teacher: Teacher, task: Task, episodes: int = EPISODES, seed: int = 0) -> Array:
    """Normalized returns of deterministic episodes."""
    seeds = range(seed, seed + episodes)
    run = run_episodes(lambda observations, _: teacher.act(observations), task, seeds)
    return normalized_return(task, run.returns)


def compare(episodes: int = EPISODES) -> Iterator[Comparison]:
    """All published teachers, one after the other."""
    for name, facts in published().items():
        measured = scores(load_published(name), get_task(name), episodes).mean()
        yield Comparison(name, float(measured), float(facts["offrl"]))


def mean_difference(comparisons: list[Comparison]) -> float:
    """Mean of the measured scores minus mean of the printed ones."""
    return float(np.mean([comparison.difference for comparison in comparisons]))
