"""All leaderboards on one static HTML page that loads nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from obdbench.io import write_atomically
from obdbench.reporting.captions import measurement_facts
from obdbench.reporting.pages import FIRST_SUITES, PLOTS, relative_link
from obdbench.reporting.plots import list_plots
from obdbench.reporting.suite_report import BLOCKS, SuiteReport, read_reports

FILE_NAME = "index.html"


def write_html(results_root: Path | str, out_dir: Path | str, *, strict: bool = False) -> Path:
    """Write ``out_dir/index.html`` with the tables of every suite and the plots drawn so far.

    :func:`obdbench.reporting.pages.write_pages` draws the plots.
    """
    root, out = Path(results_root), Path(out_dir)
    page = out / FILE_NAME
    write_atomically(page, render_html(read_reports(root, strict, first=FIRST_SUITES), root, out))
    return page


def render_html(reports: dict[str, SuiteReport], root: Path, out: Path) -> str:
    """The text of the page."""
    environment = Environment(
        loader=PackageLoader("obdbench.reporting"), autoescape=True, trim_blocks=True
    )
    style, script = (_read_asset(environment, name) for name in ("page.css", "page.js"))
    filled = {suite: report for suite, report in reports.items() if report.results.entries}
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash_source(style)}; "
        f"script-src {_hash_source(script)}; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("leaderboard.html").render(
        policy=Markup(policy),
        style=Markup(style),
        script=Markup(script),
        sources=sorted({grid.source for report in filled.values() for grid in report.grids}),
        suites=[
            {
                "name": report.suite,
                "facts": measurement_facts(report.grids),
                "figures": _figures(report, out / PLOTS),
                "tables": [table for block in BLOCKS for table in report.tables[block]],
                "link_prefix": relative_link(out, root / suite),
            }
            for suite, report in filled.items()
        ],
    )


def _figures(report: SuiteReport, folder: Path) -> list[dict[str, Any]]:
    plots = [(plot, folder / f"{plot.name}.svg") for plot in list_plots(report.grids, report.suite)]
    return [
        {
            "title": plot.title,
            "source": plot.source,
            "data": b64encode(path.read_bytes()).decode(),
        }
        for plot, path in plots
        if path.is_file()
    ]


def _read_asset(environment: Environment, name: str) -> str:
    """The text of a style sheet or script, without the template language."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash_source(text: str) -> str:
    """The source expression of a Content Security Policy that allows exactly this text."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
