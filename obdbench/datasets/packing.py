r"""Compact storage of whole episodes, for datasets that are shipped with the package.

Observations, actions and rewards are columns of one matrix. Each column :math:`x` is stored as
16-bit codes on a uniform grid between its smallest and largest value,

.. math:: c = \mathrm{round}\Big(65535\,\frac{x - \min x}{\max x - \min x}\Big),

so that the rounding error is at most 1/131070 of the column's range, which is far less than the
standard deviation of any state variable. The file stores the differences in time of the codes
(modulo 2¹⁶), with high bytes apart from low bytes, because deflate compresses these best. Next
observations are the following row's; only those of the last step of each episode are stored.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from obdbench.datasets.dataset import Array, Dataset, episode_ends
from obdbench.errors import InvalidDataError, unreadable
from obdbench.tasks.task import Task

LEVELS = 65_535
TERMINAL, TIMEOUT = 1, 2


def pack(dataset: Dataset) -> bytes:
    """A dataset of whole episodes as the bytes of an NPZ file; equal datasets, equal bytes."""
    ends = np.flatnonzero(episode_ends(dataset.terminals, dataset.timeouts))
    if dataset.next_observations is None or not len(ends) or ends[-1] != len(dataset) - 1:
        raise InvalidDataError(
            f"Dataset {dataset.id!r} cannot be packed: it does not consist of whole episodes.",
            "Every episode must end in a terminal or a time-out, and have next observations.",
        )
    inner = np.setdiff1d(np.arange(len(dataset)), ends)
    if not np.array_equal(dataset.next_observations[inner], dataset.observations[inner + 1]):
        raise InvalidDataError(
            f"Dataset {dataset.id!r} cannot be packed: a next observation differs from the "
            "following row.",
            "Keep the steps of an episode in order and complete.",
        )
    finals = dataset.next_observations[ends]
    table = np.concatenate([dataset.observations, dataset.actions, dataset.rewards[:, None]], 1)
    width = dataset.observation_size
    low, high = table.min(axis=0), table.max(axis=0)
    low[:width] = np.minimum(low[:width], finals.min(axis=0))
    high[:width] = np.maximum(high[:width], finals.max(axis=0))
    codes = _quantize(table, low, high)
    steps = np.diff(codes, axis=0, prepend=np.zeros_like(codes[:1])).T
    end_kinds = np.zeros(len(dataset), np.uint8)
    end_kinds[ends] = np.where(dataset.terminals[ends], TERMINAL, TIMEOUT)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        bounds=np.stack([low, high]).astype(np.float32),
        high_bytes=(steps >> 8).astype(np.uint8),
        low_bytes=(steps & 255).astype(np.uint8),
        finals=_quantize(finals, low[:width], high[:width]),
        ends=end_kinds,
    )
    return buffer.getvalue()


def unpack(content: bytes, dataset_id: str, task: Task, card: Mapping[str, Any]) -> Dataset:
    """The dataset that :func:`pack` wrote, from bytes whose checksum has been verified."""
    remedy = "Reinstall obdbench, or pack the dataset again."
    with unreadable(f"Dataset {dataset_id!r} cannot be unpacked", remedy):
        arrays = _decode(content, task.observation_size)
    return Dataset(id=dataset_id, task=task, card=card, **arrays)


def _decode(content: bytes, width: int) -> dict[str, Array]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        bounds, end_kinds, finals = file["bounds"], file["ends"], file["finals"]
        steps = file["high_bytes"].astype(np.uint16) << 8 | file["low_bytes"]
    codes = np.cumsum(steps, axis=1, dtype=np.uint16).T
    table = _dequantize(codes, bounds)
    observations = np.ascontiguousarray(table[:, :width])
    next_observations = np.roll(observations, -1, axis=0)
    next_observations[end_kinds > 0] = _dequantize(finals, bounds[:, :width])
    return {
        "observations": observations,
        "actions": np.ascontiguousarray(table[:, width:-1]),
        "rewards": np.ascontiguousarray(table[:, -1]),
        "terminals": end_kinds == TERMINAL,
        "next_observations": next_observations,
        "timeouts": end_kinds == TIMEOUT,
    }


def _quantize(values: Array, low: Array, high: Array) -> Array:
    span = np.where(high > low, high - low, 1.0).astype(np.float64)
    return np.asarray(np.rint((values - low) / span * LEVELS).astype(np.uint16))


def _dequantize(codes: Array, bounds: Array) -> Array:
    low, high = bounds
    grid = (high - low) / np.float32(LEVELS)
    return np.asarray(np.clip(low + codes.astype(np.float32) * grid, low, high))
