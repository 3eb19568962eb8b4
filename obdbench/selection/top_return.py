"""Selection by the return of the episode, the counterpart of behavior cloning on the best 10%.

The row ``10% BC`` of offline RL benchmarks clones the tenth of the data that comes from the
episodes of the highest return (Chen et al., 2021, arXiv 2106.01345, introduce it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from obdbench.datasets.dataset import Array, Dataset, episode_numbers
from obdbench.objectives.objective import check_range
from obdbench.selection.selection_method import SelectionMethod
from obdbench.teachers.teacher import Teacher


@dataclass(kw_only=True, eq=False)
class TopReturn(SelectionMethod):
    """Uniform draws from the episodes of the highest return that make up a share of the data."""

    name: ClassVar[str] = "top-return"
    share: float = 0.1

    def __post_init__(self) -> None:
        check_range("share", self.share, 0, 1)

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows of the best episodes."""
        episodes = episode_numbers(dataset)
        returns = np.bincount(episodes, weights=dataset.rewards.astype(np.float64))
        lengths = np.bincount(episodes)
        order = np.argsort(-returns, kind="stable")
        needed = max(pairs, int(len(dataset) * self.share))
        count = int(np.searchsorted(np.cumsum(lengths[order]), needed)) + 1
        rows = np.flatnonzero(np.isin(episodes, order[:count]))
        return np.asarray(rng.choice(rows, pairs, replace=False))
