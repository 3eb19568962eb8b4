"""Tables in the terminal, at most 80 columns wide unless the terminal is wider."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from obdbench.errors import strip_control_characters
from obdbench.reporting.grouping import build_grids
from obdbench.reporting.leaderboard_tables import summary_table
from obdbench.reporting.suite_results import suite_results_of
from obdbench.reporting.table import Table
from obdbench.results.record import Result

MIN_WIDTH = 80


def summarize_results(results: Iterable[Result], suite: str) -> str:
    """The summary table of every data source and protocol among finished trials."""
    finished = [result for result in results if result.status == "ok"]
    grids = build_grids(suite_results_of(finished, suite))
    return "\n".join(render_terminal_table(summary_table(grid)) for grid in grids)


def render_terminal_table(table: Table) -> str:
    """A table as text, in color if the output is a terminal."""
    buffer = io.StringIO()
    terminal = sys.stdout.isatty()
    width = max(MIN_WIDTH, os.get_terminal_size().columns) if terminal else MIN_WIDTH
    console = Console(file=buffer, width=width, force_terminal=terminal, highlight=False)
    rendered = RichTable(title=_text(table.title), title_justify="left", title_style="bold")
    for index, name in enumerate(table.columns):
        rendered.add_column(_text(name), justify="left" if index == 0 else "right")
    for row in table.rows:
        rendered.add_row(*(_text(cell.text, bold=cell.bold) for cell in row))
    console.print(rendered)
    return buffer.getvalue().rstrip("\n")


def _text(content: str, *, bold: bool = False) -> Text:
    """Text without control characters that rich does not read as markup."""
    return Text(strip_control_characters(content), style="bold" if bold else "")
