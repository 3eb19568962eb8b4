"""Where the episodes of a dataset begin and end."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Transitions(Protocol):
    """The columns of a dataset that determine its episodes."""

    @property
    def terminals(self) -> Array: ...
    @property
    def timeouts(self) -> Array | None: ...
    @property
    def observations(self) -> Array: ...
    @property
    def next_observations(self) -> Array | None: ...


def episode_ends(
    terminals: Array,
    timeouts: Array | None = None,
    observations: Array | None = None,
    next_observations: Array | None = None,
) -> Array:
    """Whether an episode ends at each row, as a Boolean vector.

    An episode ends with a terminal, a time-out, or, if both observations and next observations are
    given, a transition whose next observation is not the following row.
    """
    ends = np.array(terminals, dtype=bool)
    if timeouts is not None:
        ends |= np.asarray(timeouts, dtype=bool)
    if observations is not None and next_observations is not None:
        ends[:-1] |= (next_observations[:-1] != observations[1:]).any(axis=1)
    return ends


def episode_numbers(dataset: Transitions) -> Array:
    """The number of the episode that each transition belongs to, counted from 0."""
    ends = episode_ends(
        dataset.terminals, dataset.timeouts, dataset.observations, dataset.next_observations
    )
    return np.concatenate([[0], np.cumsum(ends[:-1])]).astype(np.int64)


def time_steps(dataset: Transitions) -> Array:
    """The time step of each transition within its episode, counted from 0."""
    numbers = episode_numbers(dataset)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return np.arange(len(numbers)) - starts[numbers]
