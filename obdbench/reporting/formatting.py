"""How scores become cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from obdbench.reporting import statistics as stats
from obdbench.reporting.model import CellData
from obdbench.reporting.table import MISSING, Cell, number


def plus_minus(values: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation."""
    mean, spread = stats.mean_std(values)
    return number(mean, digits) + (f" ± {number(spread, digits)}" if spread is not None else "")


def score_cell(cell: CellData | None, bold: bool = False) -> Cell:
    """A cell's scores, its failure, or the want of both."""
    if cell is None:
        return Cell(MISSING)
    if not cell.scores:
        return Cell(cell.failures[0] if cell.failures else MISSING, None, cell.files)
    text = plus_minus(cell.scores)
    if not cell.complete:
        text += f" ({len(cell.scores)}/{len(cell.expected)})"
    return Cell(text, stats.mean_std(cell.scores)[0], cell.files, bold)


def interval_cell(interval: stats.Interval | None, digits: int = 1) -> Cell:
    """Estimate and bounds."""
    if interval is None:
        return Cell(MISSING)
    text = number(interval.estimate, digits)
    if interval.low is not None and interval.high is not None:
        text += f" ({number(interval.low, digits)} to {number(interval.high, digits)})"
    return Cell(text, interval.estimate)


def median_cell(values: Iterable[float], digits: int = 0) -> Cell:
    held = list(values)
    middle = float(median(held)) if held else None
    return Cell(number(middle, digits), middle)
