"""A table as data; it is rendered to Markdown, HTML or LaTeX elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

MISSING = "–"
DIGITS = 4  # of numbers for programs


@dataclass(frozen=True)
class Cell:
    """Plain text without markup, the number it is sorted by, and the target of its link."""

    text: str
    value: float | None = None
    bold: bool = False
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its title above it and notes below it, all without markup.

    The first ``n_text_columns`` columns contain text, the others numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    n_text_columns: int = 1


def round_number(value: float | None) -> float | None:
    """A number for programs, rounded; None where it is missing."""
    return None if value is None else round(float(value), DIGITS)


def format_number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """A number with the typographic minus sign; a dash where it is missing."""
    if value is None:
        return MISSING
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0.0:
        text = text.lstrip("+-")
    return text.replace("-", "−")
