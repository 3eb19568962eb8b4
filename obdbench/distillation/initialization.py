"""Initial synsets: real pairs drawn uniformly, spread over the states, or of high value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.errors import InvalidSettingError, unknown_name
from obdbench.teachers.teacher import Teacher

MAX_KMEANS_CANDIDATES = 20_000


def select_initial_pairs(
    method: str,
    dataset: Dataset,
    teacher: Teacher | None,
    pairs: int,
    rngs: Sequence[np.random.Generator],
) -> list[tuple[Array, Array]]:
    """Return states and actions of ``pairs`` distinct transitions for every generator."""
    if pairs > len(dataset):
        raise InvalidSettingError(
            f"{pairs} pairs are more than the {len(dataset)} transitions of {dataset.id}.",
            "Use fewer pairs.",
        )
    if method == "real":
        selections = [rng.choice(len(dataset), pairs, replace=False) for rng in rngs]
    elif method == "kmeans++":
        selections = [_select_by_kmeans(dataset.states, pairs, rng) for rng in rngs]
    elif method == "top-q":
        candidates = _highest_valued_rows(dataset, teacher, pairs)
        selections = [rng.choice(candidates, pairs, replace=False) for rng in rngs]
    else:
        raise unknown_name("initialization", method, ("real", "kmeans++", "top-q"))
    return [
        (dataset.states[rows].copy(), np.asarray(dataset.actions[rows], np.float32).copy())
        for rows in selections
    ]


def _select_by_kmeans(states: Array, pairs: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Select rows by k-means++ seeding (Arthur and Vassilvitskii, 2007).

    The next row is drawn with a probability proportional to its squared distance from the nearest
    row selected before.
    """
    size = min(len(states), max(MAX_KMEANS_CANDIDATES, pairs))
    candidates = rng.choice(len(states), size, replace=False)
    points = states[candidates].astype(np.float64)
    selected = [int(rng.integers(len(points)))]
    distance = np.full(len(points), np.inf)
    while len(selected) < pairs:
        distance = np.minimum(distance, ((points - points[selected[-1]]) ** 2).sum(axis=1))
        distance[selected] = 0.0
        total = distance.sum()
        if total > 0:
            selected.append(int(rng.choice(len(points), p=distance / total)))
        else:  # fewer distinct states than pairs
            rest = np.setdiff1d(np.arange(len(points)), selected)
            selected.extend(rng.choice(rest, pairs - len(selected), replace=False).tolist())
    return np.asarray(candidates[selected])


def _highest_valued_rows(
    dataset: Dataset, teacher: Teacher | None, pairs: int
) -> np.ndarray[Any, Any]:
    """Return the tenth of the rows with the highest teacher values, and at least ``pairs`` rows."""
    if teacher is None:
        raise InvalidSettingError("The initialization 'top-q' needs a teacher.", "Use 'real'.")
    q = teacher.value(dataset.observations, np.asarray(dataset.actions, np.float32))
    size = max(pairs, len(dataset) // 10)
    return np.asarray(np.argpartition(-q, size - 1)[:size])
