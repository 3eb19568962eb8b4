r"""Seeding of k-means++ (Arthur and Vassilvitskii, 2007): states that cover the data.

The first state is drawn uniformly, each further one with a probability proportional to its squared
distance to the nearest state chosen so far, among at most 20,000 candidates.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.selection.selection_method import SelectionMethod
from obdbench.teachers.teacher import Teacher

CANDIDATES = 20_000


class KMeansPlusPlus(SelectionMethod):
    """States spread over the data by squared distance."""

    name: ClassVar[str] = "kmeans++"

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows whose standardized states are far from each other."""
        states = dataset.states
        count = min(len(states), max(CANDIDATES, pairs))
        candidates = rng.choice(len(states), count, replace=False)
        points = states[candidates].astype(np.float64)
        chosen = [int(rng.integers(len(points)))]
        distances = np.full(len(points), np.inf)
        while len(chosen) < pairs:
            latest = ((points - points[chosen[-1]]) ** 2).sum(axis=1)
            distances = np.minimum(distances, latest)
            distances[chosen] = 0.0
            total = distances.sum()
            if total > 0:
                chosen.append(int(rng.choice(len(points), p=distances / total)))
            else:  # fewer distinct states than pairs
                rest = np.setdiff1d(np.arange(len(points)), chosen)
                chosen.extend(rng.choice(rest, pairs - len(chosen), replace=False).tolist())
        return np.asarray(candidates[chosen])
