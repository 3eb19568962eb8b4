"""How scores become cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from obdbench.reporting import statistics as stats
from obdbench.reporting.grid import GridCell
from obdbench.reporting.table import MISSING, Cell, format_number


def format_mean_std(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation."""
    mean, spread = stats.mean_std(values)
    return format_number(mean, digits) + (
        f" ± {format_number(spread, digits)}" if spread is not None else ""
    )


def score_cell(cell: GridCell | None, bold: bool = False) -> Cell:
    """A cell's scores, its failure, or the want of both."""
    if cell is None:
        return Cell(MISSING)
    if not cell.scores:
        return Cell(cell.failures[0] if cell.failures else MISSING, None, cell.files)
    text = format_mean_std(cell.scores)
    if not cell.complete:
        text += f" ({len(cell.scores)}/{len(cell.expected_seeds)})"
    return Cell(text, stats.mean_std(cell.scores)[0], cell.files, bold)


def interval_cell(interval: stats.Interval | None, digits: int = 1) -> Cell:
    """Estimate and bounds."""
    if interval is None:
        return Cell(MISSING)
    text = format_number(interval.estimate, digits)
    if interval.low is not None and interval.high is not None:
        text += (
            f" ({format_number(interval.low, digits)} to {format_number(interval.high, digits)})"
        )
    return Cell(text, interval.estimate)


def median_cell(values: Iterable[float], digits: int = 0) -> Cell:
    held = list(values)
    middle = float(median(held)) if held else None
    return Cell(format_number(middle, digits), middle)
