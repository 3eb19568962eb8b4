"""Offline transitions of one task, identified by their content.

A :class:`Dataset` holds raw observations; :attr:`Dataset.states` gives them standardized as in the
OBD paper (Lei et al., 2024, arXiv 2410.22728) and the offline-RL code bases it builds on:
``(s - mean) / (std + 1e-3)`` with the moments of that dataset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from obdbench.errors import InvalidDataError
from obdbench.tasks.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
REQUIRED_COLUMNS = ("observations", "actions", "rewards", "terminals")
OPTIONAL_COLUMNS = ("next_observations", "timeouts")
STD_OFFSET = 1e-3
ACTION_TOLERANCE = 1e-3  # rounding may carry an action beyond its bound


@dataclass(frozen=True)
class Standardizer:
    """The affine map from raw observations to the states that networks see."""

    mean: Array
    std: Array

    @classmethod
    def fit(cls, observations: Array) -> Standardizer:
        """Moments over the rows, accumulated in float64."""
        mean = observations.mean(axis=0, dtype=np.float64)
        std = observations.std(axis=0, dtype=np.float64)
        return cls(mean.astype(np.float32), std.astype(np.float32))

    @property
    def scale(self) -> Array:
        """The divisor, ``std + 1e-3``."""
        return np.asarray(self.std + np.float32(STD_OFFSET))

    def apply(self, observations: Array) -> Array:
        """Raw observations to standardized states."""
        return np.asarray((observations - self.mean) / self.scale, dtype=np.float32)

    def invert(self, states: Array) -> Array:
        """Standardized states to raw observations."""
        return np.asarray(states * self.scale + self.mean, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Offline transitions of one task.

    ``observations`` are raw. ``next_observations``, ``timeouts`` and the card are optional. Offline
    RL and imagined states need ``next_observations``.
    """

    id: str
    task: Task
    observations: Array
    actions: Array
    rewards: Array
    terminals: Array
    next_observations: Array | None = None
    timeouts: Array | None = None
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate(self)

    def __repr__(self) -> str:
        return f"<Dataset {self.id}, {len(self):,} transitions>"

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def observation_size(self) -> int:
        """Length of an observation."""
        return int(self.observations.shape[1])

    @property
    def action_size(self) -> int:
        """Length of an action."""
        return int(self.actions.shape[1])

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over shapes, types and bytes of the required columns: the dataset's identity.

        A change of ``next_observations`` or ``timeouts`` alone does not change it.
        """
        digest = hashlib.sha256()
        for name in REQUIRED_COLUMNS:
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    @cached_property
    def standardizer(self) -> Standardizer:
        """Moments of this dataset's observations."""
        return Standardizer.fit(self.observations)

    @cached_property
    def states(self) -> Array:
        """Standardized observations."""
        return self.standardizer.apply(self.observations)

    def episode_returns(self) -> Array:
        """Undiscounted returns of the complete episodes, in order.

        An episode is complete if the task ended it or if it reached the time limit, or one step
        less in D4RL's form. The limit is the length of the longest episode that ends in a time-out
        before the last row, where the data may break off, or else the limit of the task. An episode
        that ends only because the next observation is not the following row is incomplete.
        """
        last = np.flatnonzero(
            episode_ends(self.terminals, self.timeouts, self.observations, self.next_observations)
        )
        terminals = np.asarray(self.terminals, dtype=bool)[last]
        timeouts = episode_ends(self.terminals, self.timeouts)[last] & ~terminals
        totals = np.cumsum(np.asarray(self.rewards, dtype=np.float64))
        lengths = np.diff(last, prepend=-1)
        earlier = timeouts & (last < len(self) - 1)
        limit = lengths[earlier].max(initial=0) or self.task.episode_limit
        returns = np.diff(totals[last], prepend=0.0)
        return np.asarray(returns[terminals | timeouts & (lengths >= limit - 1)])


@dataclass(frozen=True, eq=False, kw_only=True)
class RelatedDataset(Dataset):
    """Other states in the units of a reference dataset, which students see."""

    reference: Dataset

    @cached_property
    def standardizer(self) -> Standardizer:
        """Moments of the reference's observations."""
        return self.reference.standardizer


class DerivedDataset(RelatedDataset):
    """Other states, to which the state density of the reference applies."""


class SmoothedDataset(RelatedDataset):
    """The reference with noise on its states."""


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


def episode_numbers(dataset: Dataset) -> Array:
    """The number of the episode that each transition belongs to, counted from 0."""
    ends = episode_ends(
        dataset.terminals, dataset.timeouts, dataset.observations, dataset.next_observations
    )
    return np.concatenate([[0], np.cumsum(ends[:-1])]).astype(np.int64)


def time_steps(dataset: Dataset) -> Array:
    """The time step of each transition within its episode, counted from 0."""
    numbers = episode_numbers(dataset)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return np.arange(len(numbers)) - starts[numbers]


def require_next_observations(dataset: Dataset, purpose: str) -> Array:
    """The next observations of a dataset, or an error that says what needs them."""
    if dataset.next_observations is None:
        raise InvalidDataError(
            f"Dataset {dataset.id!r} has no next observations, which are needed for {purpose}.",
            "Add next_observations to the file.",
        )
    return dataset.next_observations


def validate(dataset: Dataset) -> None:
    """Raise an error for wrong types or shapes, non-finite values and actions out of bounds."""
    task, label = dataset.task, f"Dataset {dataset.id!r}"
    for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS):
        array = getattr(dataset, name)
        is_absent = array is None and name in OPTIONAL_COLUMNS
        if not is_absent and not _is_array_of_numbers(array):
            raise InvalidDataError(
                f"{label} has {name} that are not an array of numbers.",
                "Convert them with numpy.asarray.",
            )
    n = len(dataset.observations)
    if n == 0:
        raise InvalidDataError(f"{label} is empty.", "It needs at least one transition.")
    expected = {
        "observations": (n, task.observation_size),
        "actions": (n, task.action_size),
        "rewards": (n,),
        "terminals": (n,),
        "next_observations": (n, task.observation_size),
        "timeouts": (n,),
    }
    for name, shape in expected.items():
        array = getattr(dataset, name)
        if array is None:
            continue
        if array.shape != shape:
            raise InvalidDataError(
                f"{label} has {name} of shape {array.shape}; {task.env_id} needs {shape}.",
                "Check that the file belongs to this task.",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise InvalidDataError(
                f"{label} contains {count} values in {name} that are not finite.",
                "Fetch or rebuild the file.",
            )
    largest = float(max(dataset.actions.max(), -dataset.actions.min()))
    if largest > 1 + ACTION_TOLERANCE:
        raise InvalidDataError(
            f"{label} contains actions of up to ±{largest:.4g}; {task.env_id} takes -1 to 1.",
            "Scale them, or clip them as the simulator does.",
        )


def _is_array_of_numbers(array: object) -> bool:
    return isinstance(array, np.ndarray) and array.ndim > 0 and array.dtype.kind in "fiub"
