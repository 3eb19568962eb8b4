r"""Compact storage of whole episodes, for datasets that travel with the package.

Observations, actions and rewards are columns of one matrix. Each column :math:`x` is stored as
16-bit codes on a uniform grid between its smallest and largest value,

.. math:: c = \mathrm{round}\Big(65535\,\frac{x - \min x}{\max x - \min x}\Big),

so that no value is off by more than 1/131070 of its column's range: far less than the spread of
any state variable, and finer than half precision wherever it matters. Of the codes the differences
in time are kept (modulo 2¹⁶), high bytes apart from low bytes, which is what deflate compresses
best. Next observations are the following row's, and are stored for each episode's last step alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.errors import InvalidDataError
from obdbench.tasks.task import Task

LEVELS = 65_535
TERMINAL, TIMEOUT = 1, 2


def pack(dataset: Dataset) -> bytes:
    """A dataset of whole episodes as the bytes of an NPZ file; equal datasets, equal bytes."""
    ends = episode_ends(dataset)
    if dataset.next_observations is None or not len(ends) or ends[-1] != len(dataset) - 1:
        raise InvalidDataError(
            f"Dataset {dataset.id!r} cannot be packed: it does not consist of whole episodes.",
            "Every episode ends in a terminal or a time-out, with next observations throughout.",
        )
    inner = np.setdiff1d(np.arange(len(dataset)), ends)
    if not np.array_equal(dataset.next_observations[inner], dataset.observations[inner + 1]):
        raise InvalidDataError(
            f"Dataset {dataset.id!r} cannot be packed: an observation is not what came next.",
            "Keep the steps of an episode in order and complete.",
        )
    finals = dataset.next_observations[ends]
    table = np.concatenate([dataset.observations, dataset.actions, dataset.rewards[:, None]], 1)
    width = dataset.observation_size
    low, high = table.min(axis=0), table.max(axis=0)
    low[:width] = np.minimum(low[:width], finals.min(axis=0))
    high[:width] = np.maximum(high[:width], finals.max(axis=0))
    codes = _codes(table, low, high)
    steps = np.diff(codes, axis=0, prepend=np.zeros_like(codes[:1])).T
    marks = np.zeros(len(dataset), np.uint8)
    marks[ends] = np.where(dataset.terminals[ends], TERMINAL, TIMEOUT)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        bounds=np.stack([low, high]).astype(np.float32),
        high_bytes=(steps >> 8).astype(np.uint8),
        low_bytes=(steps & 255).astype(np.uint8),
        finals=_codes(finals, low[:width], high[:width]),
        ends=marks,
    )
    return buffer.getvalue()


def unpack(blob: bytes, dataset_id: str, task: Task, card: Mapping[str, Any]) -> Dataset:
    """The dataset that :func:`pack` wrote; for bytes whose checksum has been verified."""
    try:
        arrays = _unpacked(blob, task.observation_size)
    except Exception as error:  # bytes that pack did not write may raise nearly anything
        raise InvalidDataError(
            f"Dataset {dataset_id!r} cannot be unpacked: {type(error).__name__}: {error}.",
            "Reinstall obdbench, or pack the dataset again.",
        ) from error
    return Dataset(id=dataset_id, task=task, card=card, **arrays)


def _unpacked(blob: bytes, width: int) -> dict[str, Array]:
    with np.load(io.BytesIO(blob), allow_pickle=False) as file:
        bounds, marks, finals = file["bounds"], file["ends"], file["finals"]
        steps = file["high_bytes"].astype(np.uint16) << 8 | file["low_bytes"]
    codes = np.cumsum(steps, axis=1, dtype=np.uint16).T
    table = _values(codes, bounds)
    observations = np.ascontiguousarray(table[:, :width])
    following = np.roll(observations, -1, axis=0)
    following[marks > 0] = _values(finals, bounds[:, :width])
    return {
        "observations": observations,
        "actions": np.ascontiguousarray(table[:, width:-1]),
        "rewards": np.ascontiguousarray(table[:, -1]),
        "terminals": marks == TERMINAL,
        "next_observations": following,
        "timeouts": marks == TIMEOUT,
    }


def episode_ends(dataset: Dataset) -> Array:
    """Rows at which an episode ended, by terminal or time-out."""
    ends = np.asarray(dataset.terminals, dtype=bool)
    if dataset.timeouts is not None:
        ends = ends | np.asarray(dataset.timeouts, dtype=bool)
    return np.flatnonzero(ends)


def _codes(values: Array, low: Array, high: Array) -> Array:
    span = np.where(high > low, high - low, 1.0).astype(np.float64)
    return np.asarray(np.rint((values - low) / span * LEVELS).astype(np.uint16))


def _values(codes: Array, bounds: Array) -> Array:
    low, high = bounds
    grid = (high - low) / np.float32(LEVELS)
    return np.asarray(np.clip(low + codes.astype(np.float32) * grid, low, high))
