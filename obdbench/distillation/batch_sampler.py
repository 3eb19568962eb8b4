"""Data for the outer loss: columns of the dataset on the device, gathered by index each step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import Batch, Columns, float_tensor
from obdbench.policies.device import to_device


@dataclass
class BatchSampler:
    """Everything an objective needs of every state, resident on the device."""

    columns: Columns
    size: int
    action_size: int
    noise_columns: tuple[str, ...] = ()

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        columns: Columns,
        device: str,
        noise_columns: tuple[str, ...] = (),
    ) -> BatchSampler:
        """The dataset's own columns and those of the objective."""
        joined = {
            "states": float_tensor(dataset.states),
            "actions": float_tensor(dataset.actions),
            **columns,
        }
        for name, column in joined.items():
            if len(column) != len(dataset):
                raise InvalidDataError(
                    f"The objective's column {name!r} has {len(column)} rows for the "
                    f"{len(dataset)} states of {dataset.id}.",
                    "Return one row per dataset state from prepare().",
                )
            if column.is_floating_point() and not torch.isfinite(column).all():
                raise InvalidDataError(
                    f"The objective's column {name!r} holds values that are not finite.",
                    "Check prepare() and the teacher.",
                )
        moved = {name: column.to(device) for name, column in joined.items()}
        return cls(moved, len(dataset), dataset.action_size, noise_columns)

    def draw(self, size: int, generators: list[torch.Generator]) -> Batch:
        """One batch per seed, (S, size, …), by each seed's own generator."""
        index = torch.stack([torch.randint(self.size, (size,), generator=g) for g in generators])
        index = to_device(index, self.columns["states"].device)
        columns = {name: column[index] for name, column in self.columns.items()}
        for name in self.noise_columns:
            drawn = [torch.randn(size, self.action_size, generator=g) for g in generators]
            columns[name] = to_device(torch.stack(drawn), index.device)
        return Batch(columns)


def repeated(batch: Batch, draws: int) -> Batch:
    """The batch for ``draws`` policies per seed, seed-major."""
    if draws == 1:
        return batch
    columns: dict[str, Tensor] = batch._columns
    return Batch({name: column.repeat_interleave(draws, 0) for name, column in columns.items()})
