"""A table as data, rendered to Markdown, HTML or LaTeX elsewhere in this room."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """Text, what it sorts by, and the result files it was computed from."""

    text: str
    value: float | None = None
    files: tuple[str, ...] = ()
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """One table with all that a reader needs to judge it; every text is plain, without markup.

    ``head`` says how it was measured, ``caution`` and ``notes`` what to beware of, ``command`` what
    asked for the results. A line feed in a column's name breaks its line. The first ``texts`` columns hold
    words.
    """

    name: str
    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    head: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    caution: str = ""
    command: str = ""
    texts: int = 1


def format_number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """A number with a true minus; missing ones are a dash."""
    if value is None:
        return MISSING
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0.0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def escape_markdown(text: str) -> str:
    """Text from a result file as inert Markdown: no markup, no HTML, no column breaks."""
    flat = " ".join(text.split())
    return "".join(_ENTITIES.get(c, f"\\{c}" if c in "\\`*_[]|" else c) for c in flat)


def markdown(table: Table, prefix: str = "") -> str:
    """Heading, head, table, notes; ``prefix`` leads from the page to the result files."""
    parts = [f"### {escape_markdown(table.title)}"]
    head = [escape_markdown(item) for item in table.head]
    if table.caution:
        head.insert(0, f"**{escape_markdown(table.caution)}**")
    if table.command:
        head.append(f"command: `{table.command}`")
    if head:
        parts.append(" · ".join(head))
    parts.append(grid(table, prefix))
    parts += [f"*{escape_markdown(note)}*" for note in table.notes]
    return "\n\n".join(parts)


def grid(table: Table, prefix: str = "") -> str:
    """The table alone."""
    columns = [
        "<br>".join(escape_markdown(line) for line in name.splitlines()) for name in table.columns
    ]
    aligns = [":--" if i < table.texts else "--:" for i in range(len(columns))]
    rows = [[render(cell, prefix) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, aligns, *rows])


def render(cell: Cell, prefix: str = "") -> str:
    """A cell's Markdown: its text links its first result file, numbers link the others."""
    text = f"**{escape_markdown(cell.text)}**" if cell.bold else escape_markdown(cell.text)
    if not cell.files:
        return text
    targets = [f"{prefix}{quote(file)}" for file in cell.files]
    more = "".join(f" [{i}]({target})" for i, target in enumerate(targets[1:], start=2))
    return f"[{text}]({targets[0]}){more}"
