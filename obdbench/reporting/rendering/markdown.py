"""Render tables as Markdown. Text from result files cannot become markup."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import fill
from urllib.parse import quote

from obdbench.reporting.tables.table import Cell, Table

LINE_LENGTH = 100
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def escape_markdown(text: str) -> str:
    """Text on one line without markup, HTML or column breaks."""
    line = " ".join(text.split())
    return "".join(_ENTITIES.get(c, f"\\{c}" if c in "\\`*_[]|" else c) for c in line)


def wrap(text: str, indent: str = "") -> str:
    """Escaped text in lines of at most ``LINE_LENGTH`` characters where words allow it."""
    return fill(
        text,
        LINE_LENGTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def wrap_command(command: str) -> str:
    """A shell command in lines of at most ``LINE_LENGTH`` characters where words allow it."""
    return wrap(command, "  ").replace("\n", " \\\n")


def render_sections(tables: Iterable[Table], link_prefix: str = "") -> str:
    """Tables with title and notes; a note that several tables share is shown once."""
    shown: set[str] = set()
    sections = []
    for table in tables:
        parts = [f"### {escape_markdown(table.title)}"]
        parts.append(render_table(table, link_prefix))
        new = [note for note in table.notes if note not in shown]
        parts += [wrap(f"*{escape_markdown(note)}*") for note in new]
        shown.update(new)
        sections.append("\n\n".join(parts))
    return "\n\n".join(sections)


def render_list(items: Iterable[str]) -> str:
    """A bullet list."""
    return "\n".join(wrap(f"- {escape_markdown(item)}", "  ") for item in items)


def render_table(table: Table, link_prefix: str = "") -> str:
    """The table alone; ``link_prefix`` is the relative path from the page to link targets."""
    lines = [
        [escape_markdown(name) for name in table.columns],
        [":--" if i < table.n_text_columns else "--:" for i in range(len(table.columns))],
        *([render_cell(cell, link_prefix) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def render_cell(cell: Cell, link_prefix: str = "") -> str:
    """The text of a cell, bold or as a link where it has a target."""
    text = f"**{escape_markdown(cell.text)}**" if cell.bold else escape_markdown(cell.text)
    return f"[{text}]({link_prefix}{quote(cell.link)})" if cell.link else text
