"""Two principal components of standardized states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class StateProjection:
    """Standardized states to their first two principal components."""

    center: Array
    components: Array  # one column per component
    explained: tuple[float, ...]  # share of the variance

    @classmethod
    def fit(cls, states: Array) -> StateProjection:
        """Fit to standardized states; the largest weight of each component is positive."""
        states = _at_least_two_columns(states.astype(np.float64))
        centered = states - states.mean(axis=0)
        values, vectors = np.linalg.eigh(centered.T @ centered / max(len(states) - 1, 1))
        components = vectors[:, [-1, -2]]
        largest = np.abs(components).argmax(axis=0)
        components = components * np.sign(components[largest, [0, 1]])
        total = max(float(values.sum()), 1e-12)
        return cls(states.mean(axis=0), components, tuple(float(v) / total for v in values[:-3:-1]))

    def apply(self, states: Array) -> Array:
        """Return two coordinates per state."""
        return np.asarray((_at_least_two_columns(states) - self.center) @ self.components)


def _at_least_two_columns(states: Array) -> Array:
    return np.pad(states, ((0, 0), (0, max(0, 2 - states.shape[1]))))
