"""What distillation adds: the gain of a row over selected pairs with the same labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.grid import Grid, Row


@dataclass(frozen=True)
class ControlGain:
    """Mean gain over a control, with its interval, and the datasets that it is averaged over."""

    row: Row
    control: Row
    datasets: tuple[str, ...]
    interval: stats.Interval


def gain_over_controls(grid: Grid, row: Row) -> ControlGain | None:
    """The gain of a distilled row over the best control; None where there is none.

    Controls are the selections with equal labels, number of pairs and protocol. Among those that
    share the most datasets with the row, the best has the highest average over these datasets.
    """
    if row.method != "distillation":
        return None
    gains = []
    for control in grid.rows:
        if is_control_of(control, row):
            datasets = tuple(_shared_datasets(grid.expected_datasets, row, control))
            interval = paired_gain(row, control, datasets) if datasets else None
            if interval is not None:
                gains.append(ControlGain(row, control, datasets, interval))
    # the lowest gain on equal datasets is that over the control with the highest average
    return min(gains, key=lambda gain: (-len(gain.datasets), gain.interval.estimate), default=None)


def is_control_of(control: Row, row: Row) -> bool:
    """Whether a row selects as many pairs with the same labels for the same students."""
    return (
        control.method == "selection"
        and control.labels == row.labels
        and control.arm == row.arm
        and control.spec.settings.pairs == row.spec.settings.pairs
        and control.spec.settings.architecture == row.spec.settings.architecture
        and control.spec.settings.noise == row.spec.settings.noise
        and control.spec.protocol_params == row.spec.protocol_params
    )


def _shared_datasets(datasets: Iterable[str], row: Row, control: Row) -> Iterable[str]:
    """The datasets that both rows have completely, with the same teacher if it gives the labels."""
    teachers = _teachers(row), _teachers(control)
    for dataset in datasets:
        cells = [r.cells[dataset] for r in (row, control) if dataset in r.cells]
        same_teacher = row.labels == "data" or teachers[0].get(dataset) == teachers[1].get(dataset)
        if len(cells) == 2 and all(cell.complete for cell in cells) and same_teacher:
            yield dataset


def _teachers(row: Row) -> dict[str, set[str]]:
    """Checksums of the teachers of a row, by dataset."""
    checksums: dict[str, set[str]] = {}
    for entry in row.entries:
        if entry.record.teacher is not None:
            checksums.setdefault(entry.spec.dataset, set()).add(entry.record.teacher.checksum)
    return checksums


def paired_gain(row: Row, reference: Row, datasets: Iterable[str]) -> stats.Interval | None:
    """Mean over datasets of the differences to another row, over the seeds that both have there."""
    scores, references = [], []
    for dataset in datasets:
        cell, other = row.cells[dataset], reference.cells[dataset]
        seeds = sorted(cell.curves.keys() & other.curves.keys())
        scores.append(cell.scores_of(seeds))
        references.append(other.scores_of(seeds))
    differences = stats.differences_per_seed(scores, references)
    return stats.mean_interval(differences) if all(differences) else None
