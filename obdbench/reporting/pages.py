"""Leaderboard pages: prose by hand, tables between markers, nothing else ever touched.

A page ``leaderboards/<suite>.md`` belongs to ``leaderboards/results/<suite>/``. Text between
``<!-- obdbench:begin NAME -->`` and ``<!-- obdbench:end NAME -->`` is generated; any other page may
show a suite's block under the name ``SUITE/NAME``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote

from obdbench.errors import InvalidDataError
from obdbench.io import write_atomically
from obdbench.reporting.grid import Grid
from obdbench.reporting.grouping import build_grids
from obdbench.reporting.leaderboard_tables import cost, gaps, provenance, score_tables, summary
from obdbench.reporting.paper_tables import compare_with_papers
from obdbench.reporting.plots import draw_plots, list_plots
from obdbench.reporting.suite_results import SuiteResults, read_suite_results
from obdbench.reporting.table import (
    MISSING,
    Cell,
    Table,
    escape_markdown,
    format_number,
    grid,
    markdown,
)

BLOCKS = (
    "main",
    "published",
    "best",
    "comparisons",
    "cross-architecture",
    "cross-optimizer",
    "ensemble",
    "size",
    "other",
    "plots",
    "cost",
    "provenance",
    "gaps",
)
SUITES = ("quick", "embedded", "recon", "d4rl")
INDEX = "README"
PLOTS = "plots"
_BLOCK = re.compile(
    r"(<!-- obdbench:begin (?P<name>[^\s>]+) -->\n)(?P<text>.*?)(<!-- obdbench:end (?P=name) -->)",
    re.DOTALL,
)


@dataclass(frozen=True)
class SuiteReport:
    """All tables of one suite, by block."""

    collection: SuiteResults
    grids: tuple[Grid, ...]
    tables: dict[str, list[Table]]

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.collection.suite


def build_report(collection: SuiteResults) -> SuiteReport:
    """Compute every table of a collection."""
    found, suite = build_grids(collection), collection.suite
    tables: dict[str, list[Table]] = {name: [] for name in BLOCKS}
    for part in found:
        for table in score_tables(part, suite):
            block = "main" if table.name == "default" else table.name
            tables[block if block in tables else "other"].append(table)
        if part.protocol == "default":
            tables["cost"].append(cost(part, suite))
            tables["provenance"].append(provenance(part, suite))
    tables["published"] = compare_with_papers(found, suite)
    tables["gaps"] = gaps(collection)
    return SuiteReport(collection, tuple(found), tables)


def markdown_blocks(made: SuiteReport, prefix: str, plots: str) -> dict[str, str]:
    """The Markdown of every block; an empty one says nothing, but ``main`` says why."""
    texts = {
        name: "\n\n".join(markdown(table, prefix) for table in tables)
        for name, tables in made.tables.items()
    }
    if not made.collection.entries:
        texts["main"] = f"No results yet. `obdbench run {made.suite}` makes them."
    main = [part for part in made.grids if part.protocol == "default"]
    texts["summary"] = "\n\n".join(grid(summary(part)) for part in main)
    figures = list_plots(made.grids, made.suite)
    if figures:
        lines = [
            f"![{escape_markdown(title)}]({plots}/{quote(name)}.png)" for name, title, _ in figures
        ]
        texts["plots"] = "\n\n".join(["### Plots", *lines])
    return texts


def write_pages(
    results_root: Path | str,
    out_dir: Path | str,
    *,
    strict: bool = False,
    also: Sequence[Path] = (),
    plots: bool = True,
) -> list[Path]:
    """Regenerate every page from ``results_root/<suite>/``; the pages written are returned.

    Pages of suites that have none are created; of results from elsewhere than ``out_dir/results``
    only their own suites' pages are written. ``also`` names further files whose ``SUITE/NAME``
    blocks are to be kept up to date. Plots need matplotlib and are left as they are without it.
    """
    out = Path(out_dir)
    boards = read_reports(Path(results_root), out, strict)
    written = []
    for path, text in _pages(boards, Path(results_root), out, also).items():
        if not path.is_file() or read_page(path) != text:
            write_atomically(path, text)
        written.append(path)
    if plots:
        for made in boards.values():
            written += draw_suite_plots(made, out / PLOTS)
    return written


def check_pages(
    results_root: Path | str, out_dir: Path | str, *, strict: bool = True, also: Sequence[Path] = ()
) -> list[str]:
    """What does not follow from the results: one line a page, empty where all is well."""
    out = Path(out_dir)
    complaints = []
    boards = read_reports(Path(results_root), out, strict)
    owed = {out / f"{suite}.md" for suite, made in boards.items() if made.collection.entries}
    for path, text in _pages(boards, Path(results_root), out, also).items():
        if not path.is_file():
            complaints.append(f"{path.name} is missing; `obdbench leaderboard` writes it.")
            continue
        held, due = _held(read_page(path)), _held(text)
        if path in owed and "main" not in dict(due):
            complaints.append(
                f"{path.name} has lost the markers of its main table. Restore them, or remove the "
                "page: `obdbench leaderboard` writes it anew."
            )
        stale = dict.fromkeys(
            name for (name, old), (_, new) in zip(held, due, strict=True) if old != new
        )
        if stale:
            complaints.append(
                f"{path.name} does not follow from its results: {', '.join(stale)}. "
                "`obdbench leaderboard` rewrites it."
            )
    return complaints


def draw_suite_plots(made: SuiteReport, folder: Path) -> list[Path]:
    """A suite's plots as PNG and SVG, where matplotlib is installed."""
    if find_spec("matplotlib") is None or not made.grids:
        return []
    return draw_plots(made.grids, made.suite, folder)


def fill_blocks(text: str, texts: dict[str, str], page: str) -> str:
    """Replace what stands between markers; names that ``texts`` lacks are left alone."""
    if text.count("<!-- obdbench:begin ") != len(_BLOCK.findall(text)):
        raise InvalidDataError(
            f"{page} has a begin marker without its end.", "Restore the marker or the page."
        )

    def regenerated(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in texts:
            return match[0]
        body = f"\n{texts[name]}\n\n" if texts[name] else ""
        return f"{match[1]}{body}{match[4]}"

    return _BLOCK.sub(regenerated, text)


def read_page(path: Path) -> str:
    """A page's text; whatever cannot be read as text is one clear error."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDataError(
            f"The page {path} cannot be read: {error}.", "Restore or remove it."
        ) from error


def skeleton(suite: str, results: str, guide: bool) -> str:
    """A new page: title, one sentence, empty markers; ``results`` leads to the suite's folder.

    With a ``guide``, a README beside the page, the sentence points to it.
    """
    marks = "\n\n".join(f"{begin_marker(name)}\n{end_marker(name)}" for name in BLOCKS)
    folder = results.removesuffix("/") or "."
    reading = f"; [how to read these tables]({INDEX}.md)" if guide else ""
    return (
        f"# Leaderboard: {escape_markdown(suite)}\n\nComputed from the result files under "
        f"[{escape_markdown(unquote(folder))}]({folder}){reading}.\n\n{marks}\n"
    )


def begin_marker(name: str) -> str:
    """The marker before a generated block."""
    return f"<!-- obdbench:begin {name} -->"


def end_marker(name: str) -> str:
    """The marker behind a generated block."""
    return f"<!-- obdbench:end {name} -->"


def index(boards: dict[str, SuiteReport]) -> str:
    """The list of pages, with what each holds."""
    rows = []
    for suite, made in boards.items():
        main = [part for part in made.grids if part.protocol == "default"]
        leaders = []
        for part in main:
            top = next((row for row in part.sorted_rows() if part.rank(row) == 1), None)
            if top is not None:
                leaders.append(f"{top.label} {format_number(top.average)}")
        found = sum(row.n_scores for part in made.grids for row in part.rows)
        total = sum(row.n_expected for part in made.grids for row in part.rows)
        datasets = {d for part in made.grids for d in part.datasets}
        started = max((e.record.timing.started for e in made.collection.entries), default="")
        rows.append(
            (
                Cell(suite, None, (f"{suite}.md",)),
                Cell(", ".join(sorted({part.source for part in made.grids})) or MISSING),
                Cell(str(len(datasets)) if datasets else MISSING),
                Cell(f"{found}/{total}" if total else "no results yet"),
                Cell("; ".join(leaders) or MISSING),
                Cell(started[:10] or MISSING),
            )
        )
    columns = ("page", "data", "datasets", "scores n/N", "first by average", "newest result")
    return grid(Table("index", "Pages", "", columns, tuple(rows), texts=2))


def read_reports(root: Path, out: Path, strict: bool) -> dict[str, SuiteReport]:
    """Every suite that has results, known ones first.

    Where the results are those that belong to the pages, also every suite that has a page alone.
    """
    folders = {path.name: path for path in sorted(root.iterdir())} if root.is_dir() else {}
    suites = {name for name, path in folders.items() if path.is_dir() and any(path.glob("*.json"))}
    pages = _suites_of(out) if _belong(root, out) else set()
    if not suites:
        deep = root.is_dir() and any(root.glob("*.json"))
        raise InvalidDataError(
            f"{root} holds no folder with results of a suite.",
            f"Give the folder above: {root.resolve().parent}." if deep else "Name it with --out.",
        )
    known = {name: place for place, name in enumerate(SUITES)}
    ordered = sorted(suites | pages, key=lambda name: (known.get(name, len(known)), name))
    return {
        name: build_report(
            read_suite_results(folders[name], strict) if name in suites else SuiteResults(name)
        )
        for name in ordered
    }


def _suites_of(out: Path) -> set[str]:
    return {path.stem for path in out.glob("*.md")} - {INDEX}


def _belong(root: Path, out: Path) -> bool:
    return root.resolve() == (out / "results").resolve()


def _pages(
    boards: dict[str, SuiteReport], root: Path, out: Path, also: Sequence[Path]
) -> dict[Path, str]:
    pages: dict[Path, str] = {}
    for suite, made in boards.items():
        page, prefix = out / f"{suite}.md", relative_link(out, root / suite)
        guide = (out / f"{INDEX}.md").is_file()
        text = read_page(page) if page.is_file() else skeleton(suite, prefix, guide)
        pages[page] = fill_blocks(text, markdown_blocks(made, prefix, PLOTS), page.name)
    whole = _belong(root, out) or _suites_of(out) <= set(boards)
    for page in (out / f"{INDEX}.md", *also):
        if page.is_file() and whole:  # some suites' results would empty the others' tables
            texts = {"index": index(boards)}
            for suite, made in boards.items():
                prefix, plots = (
                    relative_link(page.parent, root / suite),
                    relative_link(page.parent, out),
                )
                made_blocks = markdown_blocks(made, prefix, f"{plots}{PLOTS}")
                texts |= {f"{suite}/{name}": text for name, text in made_blocks.items()}
            pages[page] = fill_blocks(read_page(page), texts, page.name)
    return pages


def relative_link(page_folder: Path, target: Path) -> str:
    """The relative link from a page's folder to another folder."""
    path = os.path.relpath(target.resolve(), page_folder.resolve()).replace(os.sep, "/")
    return "" if path == "." else f"{quote(path)}/"


def _held(text: str) -> list[tuple[str, str]]:
    return [(match["name"], match["text"]) for match in _BLOCK.finditer(text)]
