"""Format scores as table cells."""

from __future__ import annotations

from collections.abc import Sequence

from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.control_gain import ControlGain
from obdbench.reporting.grids.grid import GridCell, Row
from obdbench.reporting.tables.captions import BELOW_START, HIGH_MISSED_VARIANCE
from obdbench.reporting.tables.table import MISSING, Cell, format_number


def format_mean_std(values: Sequence[float]) -> str:
    """Mean ± standard deviation; the mean alone for one value."""
    mean, std = stats.mean_std(values)
    return format_number(mean) + ("" if std is None else f" ± {format_number(std)}")


def score_cell(cell: GridCell | None, bold: bool = False, *, mark_decrease: bool = False) -> Cell:
    """The score of a cell, the status of a failed trial, or a dash.

    A score is marked if students of one of its seeds miss much of the variance of the target
    actions; ``mark_decrease`` marks a score that is below that of step 0.
    """
    if cell is None:
        return Cell(MISSING)
    if not cell.scores:
        return Cell(next(iter(cell.failures.values()), MISSING))
    text = format_mean_std(cell.scores)
    if not cell.complete:
        text += f" ({len(cell.scores)}/{len(cell.expected_seeds)})"
    if cell.high_missed_variance:
        text += f" {HIGH_MISSED_VARIANCE}"
    if mark_decrease and (cell.change or 0.0) < 0.0:
        text += f" {BELOW_START}"
    return Cell(text, stats.mean_std(cell.scores)[0], bold)


def average_cell(row: Row) -> Cell:
    """The average of a row, marked where it is lower than that of the initial pairs."""
    mark = f" {BELOW_START}" if (row.change or 0.0) < 0.0 else ""
    return Cell(f"{format_number(row.average)}{mark}", row.average)


def gain_cell(gain: ControlGain | None, n_datasets: int) -> Cell:
    """The gain over a control; names the number of datasets where some are left out."""
    if gain is None:
        return Cell(MISSING)
    cell = interval_cell(gain.interval, sign=True)
    if len(gain.datasets) == n_datasets:
        return cell
    return Cell(f"{cell.text}, {len(gain.datasets)} of {n_datasets} datasets", cell.value)


def interval_cell(interval: stats.Interval | None, digits: int = 1, *, sign: bool = False) -> Cell:
    """Estimate with its bounds; a dash where there is none."""
    if interval is None:
        return Cell(MISSING)
    text = format_number(interval.estimate, digits, sign)
    if interval.low is not None and interval.high is not None:
        bounds = (format_number(bound, digits) for bound in (interval.low, interval.high))
        text += f" ({' to '.join(bounds)})"
    return Cell(text, interval.estimate)
