"""The command lines that asked for the results of a table, from the manifest of the suite."""

from __future__ import annotations

import shlex

from obdbench.reporting.captions import distilled_rows
from obdbench.reporting.grid import Grid


def format_commands(grid: Grid) -> str:
    """Return the command lines as one line of shell; empty if the manifest names none.

    Words are quoted for the shell. A command that does not fit into inline code is left out.
    """
    commands = {entry.command for row in distilled_rows(grid) for entry in row.entries}
    lines = [shlex.join(("obdbench", *words)) for words in sorted(commands - {()})]
    return " && ".join(line for line in lines if line.isprintable() and "`" not in line)
