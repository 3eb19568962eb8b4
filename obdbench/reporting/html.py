"""All leaderboards on one static page: no server, and nothing is loaded from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from obdbench.io import write_atomically
from obdbench.reporting.pages import BLOCKS, PLOTS, SuiteReport, read_reports, relative_link
from obdbench.reporting.plots import list_plots
from obdbench.reporting.table import Cell, Table

NAME = "index.html"


def write(results_root: Path | str, out_dir: Path | str, *, strict: bool = False) -> Path:
    """Write ``out_dir/index.html`` with every suite's tables and the plots drawn so far.

    Run after :func:`obdbench.reporting.pages.write_pages`, which draws them.
    """
    root, out = Path(results_root), Path(out_dir)
    made = read_reports(root, out, strict)
    page = out / NAME
    write_atomically(page, render(made, root, out))
    return page


def render(made: dict[str, SuiteReport], root: Path, out: Path) -> str:
    """The page's text."""
    style, script = _asset("page.css"), _asset("page.js")
    filled = {suite: board for suite, board in made.items() if board.collection.entries}
    sources = sorted({part.source for board in filled.values() for part in board.grids})
    bar = " ".join(
        f'<label><input type="checkbox" value="{escape(source)}" checked> {escape(source)}</label>'
        for source in sources
    )
    body = "\n".join(
        _suite(board, relative_link(out, root / suite), out / PLOTS)
        for suite, board in filled.items()
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src {_allow(style)}; "
        f"script-src {_allow(script)}; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>obdbench leaderboards</title>\n<style>{style}</style>\n</head>\n<body>\n"
        "<h1>obdbench leaderboards</h1>\n"
        '<p class="head">Offline behavior distillation: every number is computed from result '
        "files, which its cell links. Click a column to sort.</p>\n"
        f'<div class="bar" role="group" aria-label="data sources">Data: {bar}</div>\n'
        f"{body or '<p>No results yet.</p>'}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _suite(board: SuiteReport, prefix: str, plots: Path) -> str:
    parts = [f"<section>\n<h2>{escape(board.suite)}</h2>"]
    for block in BLOCKS:
        parts += [_table(table, prefix) for table in board.tables[block]]
        if block == "plots":
            parts += _figures(board, plots)
    return "\n".join([*parts, "</section>"])


def _figures(board: SuiteReport, plots: Path) -> list[str]:
    figures = []
    for name, title, source in list_plots(board.grids, board.suite):
        path = plots / f"{name}.svg"
        if path.is_file():
            data = b64encode(path.read_bytes()).decode()
            figures.append(
                f'<figure data-source="{escape(source)}">'
                f'<img alt="{escape(title)}" src="data:image/svg+xml;base64,{data}">'
                f"<figcaption>{escape(title)}</figcaption></figure>"
            )
    return figures


def _table(table: Table, prefix: str) -> str:
    head = [escape(item) for item in table.head]
    if table.caution:
        head.insert(0, f'<span class="caution">{escape(table.caution)}</span>')
    if table.command:
        head.append(f"command: <code>{escape(table.command)}</code>")
    kinds = [" class=word" if i < table.texts else "" for i in range(len(table.columns))]
    columns = "".join(
        f'<th scope="col"{kind}><button type="button">{escape(name)}</button></th>'
        for name, kind in zip(table.columns, kinds, strict=True)
    )
    rows = "\n".join(
        f"<tr>{''.join(_cell(c, k, prefix) for c, k in zip(row, kinds, strict=True))}</tr>"
        for row in table.rows
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<article data-source="{escape(table.source)}">\n<h3>{escape(table.title)}</h3>\n'
        f'<p class="head">{" · ".join(head)}</p>\n<div class="scroll"><table>\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n"
        f"{notes}\n</article>"
    )


def _cell(cell: Cell, kind: str, prefix: str) -> str:
    text = f"<strong>{escape(cell.text)}</strong>" if cell.bold else escape(cell.text)
    links = [f'<a href="{escape(prefix + quote(file))}">' for file in cell.files]
    if links:
        more = "".join(f" {link}{i}</a>" for i, link in enumerate(links[1:], start=2))
        text = f"{links[0]}{text}</a>{more}"
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    return f"<td{kind}{value}>{text}</td>"


def _asset(name: str) -> str:
    return files("obdbench.reporting").joinpath("assets", name).read_text(encoding="utf-8")


def _allow(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
