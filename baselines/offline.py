"""Transitions of several datasets as tensors, with what the behaviour earned from each row on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from obdbench.collection.recipe import load_collection
from obdbench.datasets.dataset import Array, Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError

UNITS = 10.0


@dataclass(frozen=True)
class Batch:
    """Rows of every dataset, each tensor with the datasets as its leading axis."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    continues: Tensor
    returns: Tensor
    lowest: Tensor  # of the dataset's returns-to-go, (datasets, 1)
    highest: Tensor


def returns_to_go(dataset: Dataset, discount: float) -> Array:
    r"""Discounted return from each row on: the calibration :math:`V^\mu`.

    What would follow a time-out is estimated from the mean reward of the last effective horizon.
    """
    ends = np.asarray(dataset.terminals, dtype=bool).copy()
    timeouts = np.zeros_like(ends) if dataset.timeouts is None else dataset.timeouts.astype(bool)
    ends |= timeouts
    ends[-1] = True
    rewards = dataset.rewards.astype(np.float64)
    horizon = round(1 / (1 - discount))
    values = np.empty(len(dataset))
    first = 0
    for last in np.flatnonzero(ends):
        episode = rewards[first : last + 1]
        value = 0.0 if dataset.terminals[last] else episode[-horizon:].mean() / (1 - discount)
        for row in range(last, first - 1, -1):
            values[row] = value = rewards[row] + discount * value
        first = last + 1
    return values.astype(np.float32)


def collected(name: str, folder: Path) -> Dataset:
    """The full collection, or the embedded dataset where that was not rebuilt here."""
    path = folder / f"{name}.npz"
    return load_collection(path) if path.exists() else load_dataset(f"embedded/{name}")


class Replay:
    """The transitions of several datasets of one task, sampled in step."""

    def __init__(self, datasets: Sequence[Dataset], discount: float) -> None:
        self.widths = [datasets[0].observation_size, datasets[0].action_size]
        self.scales, self.tables = [], []
        lowest, highest = [], []
        for dataset in datasets:
            if dataset.next_observations is None:
                raise InvalidDataError(f"Dataset {dataset.id!r} holds no next observations.")
            returns = returns_to_go(dataset, discount)
            scale = float(np.abs(returns).mean()) / UNITS
            columns = (
                dataset.states,
                dataset.actions,
                dataset.standardizer.apply(dataset.next_observations),
                dataset.rewards[:, None] / scale,
                1.0 - dataset.terminals[:, None],
                returns[:, None] / scale,
            )
            self.scales.append(scale)
            lowest.append(returns.min() / scale)
            highest.append(returns.max() / scale)
            self.tables.append(torch.from_numpy(np.concatenate(columns, axis=1, dtype=np.float32)))

        self.lowest = torch.tensor(np.array(lowest, np.float32)).unsqueeze(1)
        self.highest = torch.tensor(np.array(highest, np.float32)).unsqueeze(1)

    def draw(self, size: int, generator: torch.Generator) -> Batch:
        """The same number of rows of each dataset."""
        rows = [
            table[torch.randint(len(table), (size,), generator=generator)] for table in self.tables
        ]
        state, action = self.widths
        parts = torch.stack(rows).split([state, action, state, 1, 1, 1], dim=-1)
        states, actions, next_states, rewards, continues, returns = parts
        return Batch(
            states.contiguous(),
            actions.contiguous(),
            rewards.squeeze(-1),
            next_states.contiguous(),
            continues.squeeze(-1),
            returns.squeeze(-1),
            self.lowest,
            self.highest,
        )
