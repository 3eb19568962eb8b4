"""Where the episodes of a dataset begin and end."""

from __future__ import annotations

import numpy as np

from obdbench.datasets.dataset import Array, Dataset


def episode_numbers(dataset: Dataset) -> Array:
    """The number of the episode that each transition belongs to, counted from 0.

    An episode ends with a terminal, a time-out, or a transition whose next observation is not the
    following row.
    """
    ends = np.asarray(dataset.terminals, dtype=bool).copy()
    if dataset.timeouts is not None:
        ends |= np.asarray(dataset.timeouts, dtype=bool)
    if dataset.next_observations is not None:
        jumps = (dataset.next_observations[:-1] != dataset.observations[1:]).any(axis=1)
        ends[:-1] |= jumps
    return np.concatenate([[0], np.cumsum(ends[:-1])]).astype(np.int64)


def time_steps(dataset: Dataset) -> Array:
    """The time step of each transition within its episode, counted from 0."""
    numbers = episode_numbers(dataset)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return np.arange(len(numbers)) - starts[numbers]
