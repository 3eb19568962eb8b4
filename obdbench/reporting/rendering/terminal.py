"""Tables in the terminal, at most 80 columns wide unless the terminal is wider."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from obdbench.errors import strip_control_characters
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import suite_results_of
from obdbench.reporting.tables.captions import GAIN_OVER_SELECTION
from obdbench.reporting.tables.leaderboard_tables import GAIN_OVER_RANDOM, summary_table
from obdbench.reporting.tables.table import MISSING, Table
from obdbench.results.record import Result

MIN_WIDTH = 80


def summarize_results(results: Iterable[Result], specs: Iterable[TrialSpec], suite: str) -> str:
    """The summary table of every data source and protocol among finished trials.

    A row that lacks scores of one of the trials ``specs`` has no average. Without any finished
    trial the text is empty.
    """
    finished = suite_results_of((r for r in results if r.status == "ok"), suite)
    if not finished.entries:
        return ""
    grids = build_grids(replace(finished, expected={spec.key: spec for spec in specs}))
    tables = [summary_table(grid) for grid in grids]
    return "\n\n".join(render_terminal_table(table, _optional_column(table)) for table in tables)


def _optional_column(table: Table) -> str:
    """The column to leave out where space is short: the gain over selections if it is empty."""
    for index, name in enumerate(table.columns):
        if name.startswith(GAIN_OVER_SELECTION) and all(
            row[index].text == MISSING for row in table.rows
        ):
            return name
    return GAIN_OVER_RANDOM


def render_terminal_table(table: Table, optional: str = "") -> str:
    """A table as text, in color if the output is a terminal.

    The column ``optional`` is left out where the table is wider than the terminal. Cells with
    numbers are never wrapped; a long name of a row continues on the next line.
    """
    buffer = io.StringIO()
    terminal = sys.stdout.isatty()
    width = max(MIN_WIDTH, os.get_terminal_size().columns) if terminal else MIN_WIDTH
    console = Console(file=buffer, width=width, force_terminal=terminal, highlight=False)
    rendered = _rich_table(table, "")
    if console.measure(rendered, options=console.options.update(max_width=1000)).maximum > width:
        rendered = _rich_table(table, optional)
    console.print(rendered)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _rich_table(table: Table, left_out: str) -> RichTable:
    """The table without the column of a name."""
    rendered = RichTable(
        title=_text(table.title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
    )
    shown = [index for index, name in enumerate(table.columns) if name != left_out]
    for index in shown:
        name, bracket, rest = table.columns[index].partition(" (")
        heading = Text("\n").join(_text(part) for part in (name, bracket[1:] + rest) if part)
        rendered.add_column(
            heading, justify="right" if index else "left", no_wrap=index > 0, overflow="fold"
        )
    for row in table.rows:
        rendered.add_row(*(_text(row[index].text, bold=row[index].bold) for index in shown))
    return rendered


def _text(content: str, *, bold: bool = False) -> Text:
    """Text without control characters that rich does not read as markup."""
    return Text(strip_control_characters(content), style="bold" if bold else "")
