"""Format scores as table cells."""

from __future__ import annotations

from collections.abc import Sequence

from obdbench.reporting import statistics as stats
from obdbench.reporting.captions import HIGH_MISSED_VARIANCE
from obdbench.reporting.grid import GridCell
from obdbench.reporting.table import MISSING, Cell, format_number


def format_mean_std(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation; the mean alone for one value."""
    mean, std = stats.mean_std(values)
    return format_number(mean, digits) + ("" if std is None else f" ± {format_number(std, digits)}")


def score_cell(cell: GridCell | None, bold: bool = False) -> Cell:
    """The score of a cell, the status of a failed trial, or a dash.

    A score is marked if students of one of its seeds end far from what was optimized.
    """
    if cell is None:
        return Cell(MISSING)
    if not cell.scores:
        return Cell(cell.failures[0] if cell.failures else MISSING)
    text = format_mean_std(cell.scores)
    if not cell.complete:
        text += f" ({len(cell.scores)}/{len(cell.expected_seeds)})"
    if cell.high_missed_variance:
        text += f" {HIGH_MISSED_VARIANCE}"
    return Cell(text, stats.mean_std(cell.scores)[0], bold)


def interval_cell(interval: stats.Interval | None, digits: int = 1) -> Cell:
    """Estimate with its bounds; a dash where there is none."""
    if interval is None:
        return Cell(MISSING)
    text = format_number(interval.estimate, digits)
    if interval.low is not None and interval.high is not None:
        bounds = (format_number(bound, digits) for bound in (interval.low, interval.high))
        text += f" ({' to '.join(bounds)})"
    return Cell(text, interval.estimate)
