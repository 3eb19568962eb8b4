"""Where a synset starts: real pairs of the data, chosen at random, to cover, or by value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.errors import InvalidSettingError, unknown_name
from obdbench.teachers.teacher import Teacher

CANDIDATES = 20_000


def select_initial_pairs(
    how: str,
    dataset: Dataset,
    teacher: Teacher | None,
    pairs: int,
    rngs: Sequence[np.random.Generator],
) -> list[tuple[Array, Array]]:
    """For every generator, states and actions of ``pairs`` distinct transitions."""
    if pairs > len(dataset):
        raise InvalidSettingError(
            f"{pairs} pairs are more than the {len(dataset)} transitions of {dataset.id}.",
            "Use fewer pairs.",
        )
    if how == "real":
        drawn = [rng.choice(len(dataset), pairs, replace=False) for rng in rngs]
    elif how == "kmeans++":
        drawn = [_spread(dataset.states, pairs, rng) for rng in rngs]
    elif how == "top-q":
        best = _valued(dataset, teacher, pairs)
        drawn = [rng.choice(best, pairs, replace=False) for rng in rngs]
    else:
        raise unknown_name("initialization", how, ("real", "kmeans++", "top-q"))
    return [
        (dataset.states[rows].copy(), np.asarray(dataset.actions[rows], np.float32).copy())
        for rows in drawn
    ]


def _spread(states: Array, pairs: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Seeding of k-means++ (Arthur and Vassilvitskii, 2007): next by squared distance."""
    candidates = rng.choice(len(states), min(len(states), max(CANDIDATES, pairs)), replace=False)
    points = states[candidates].astype(np.float64)
    chosen = [int(rng.integers(len(points)))]
    distance = np.full(len(points), np.inf)
    while len(chosen) < pairs:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        distance[chosen] = 0.0
        total = distance.sum()
        if total > 0:
            chosen.append(int(rng.choice(len(points), p=distance / total)))
        else:  # fewer distinct states than pairs
            rest = np.setdiff1d(np.arange(len(points)), chosen)
            chosen.extend(rng.choice(rest, pairs - len(chosen), replace=False).tolist())
    return np.asarray(candidates[chosen])


def _valued(dataset: Dataset, teacher: Teacher | None, pairs: int) -> np.ndarray[Any, Any]:
    """The tenth of the data whose actions the teacher values most, or as much as is needed."""
    if teacher is None:
        raise InvalidSettingError("The initialization 'top-q' needs a teacher.", "Use 'real'.")
    q = teacher.value(dataset.observations, np.asarray(dataset.actions, np.float32))
    size = max(pairs, len(dataset) // 10)
    return np.asarray(np.argpartition(-q, size - 1)[:size])
