"""Batches of dataset states for the outer loss, gathered by index from columns on the device."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from obdbench.datasets.dataset import Dataset
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import Batch, Columns, float_tensor
from obdbench.policies.device import to_device


@dataclass
class BatchSampler:
    """Draws batches of the columns that an objective needs; the columns stay on the device.

    ``added`` holds the columns of the states that a state source has added for every seed, or
    None. Once a seed has added states, they make up ``added_share`` of every batch.
    """

    columns: Columns
    noise_columns: tuple[str, ...] = ()
    added: list[Columns | None] = field(default_factory=list)
    added_share: float = 0.0

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        objective_columns: Columns,
        device: str,
        noise_columns: tuple[str, ...] = (),
    ) -> BatchSampler:
        """Join the dataset's states and actions with the columns that the objective prepared."""
        columns = {
            "states": float_tensor(dataset.states),
            "actions": float_tensor(dataset.actions),
            **objective_columns,
        }
        for name, column in columns.items():
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
        columns = {name: column.to(device) for name, column in columns.items()}
        return cls(columns, noise_columns)

    def draw(self, size: int, generators: list[torch.Generator]) -> Batch:
        """Draw one batch of shape (seeds, size, …), each seed's rows by its own generator."""
        added_size = round(self.added_share * size) if any(self.added) else 0
        data_size = size - added_size
        table = self.columns["states"]
        rows = [torch.randint(len(table), (data_size,), generator=g) for g in generators]
        index = to_device(torch.stack(rows), table.device)
        columns = {name: column[index] for name, column in self.columns.items()}
        if added_size:
            added = self._draw_added(added_size, generators)
            columns = {name: torch.cat([columns[name], added[name]], dim=1) for name in columns}
        for name in self.noise_columns:
            action_size = self.columns["actions"].shape[1]
            noise = [torch.randn(size, action_size, generator=g) for g in generators]
            columns[name] = to_device(torch.stack(noise), index.device)
        return Batch(columns)

    def _draw_added(self, size: int, generators: list[torch.Generator]) -> Columns:
        """Draw added states of every seed; a seed without any draws from the data."""
        rows_per_seed = []
        for added, generator in zip(self.added, generators, strict=True):
            table = added or self.columns
            index = torch.randint(len(table["states"]), (size,), generator=generator)
            index = to_device(index, table["states"].device)
            rows_per_seed.append({name: column[index] for name, column in table.items()})
        return {name: torch.stack([rows[name] for rows in rows_per_seed]) for name in self.columns}


def repeat_batch(batch: Batch, draws: int) -> Batch:
    """Repeat each seed's batch for its ``draws`` policies; policies of a seed are adjacent."""
    if draws == 1:
        return batch
    return Batch({name: col.repeat_interleave(draws, 0) for name, col in batch.columns.items()})
