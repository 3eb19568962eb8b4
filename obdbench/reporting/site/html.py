"""The leaderboard site: one static HTML file that loads nothing from elsewhere.

The file holds its style, its script and the data of :mod:`obdbench.reporting.site.site_data`; the
script shows one page per method, dataset and suite, and the synset viewer, each with an address.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from obdbench.io import write_atomically
from obdbench.reporting.site.site_data import SiteData, SiteSuite
from obdbench.reporting.tables.suite_report import SuiteReport, read_reports

FILE_NAME = "index.html"
TEMPLATES = Path(__file__).parent / "templates"


def read_suites(root: Path, *, strict: bool = False, local: bool = False) -> list[SiteSuite]:
    """The suites in a folder of results; ``local`` marks the user's own results on the site."""
    reports = read_reports(root, strict, remedy="Check the path.")
    return suites_of_reports(reports, root, local=local)


def suites_of_reports(
    reports: Mapping[str, SuiteReport], root: Path, *, local: bool = False
) -> list[SiteSuite]:
    """The suites of reports that were read from the folder of results ``root``."""
    return [SiteSuite(report, root / name, local) for name, report in reports.items()]


def write_html(suites: Sequence[SiteSuite], out: Path) -> Path:
    """Write ``index.html`` with the results of every suite to a folder."""
    page = out / FILE_NAME
    write_atomically(page, render_html(suites, out))
    return page


def render_html(suites: Sequence[SiteSuite], out: Path) -> str:
    """The text of the site for the folder ``out``, from where it links to result files."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    style, script = ((TEMPLATES / n).read_text("utf-8") for n in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash_source(style)}; "
        f"script-src {_hash_source(script)}; base-uri 'none'; form-action 'none'"
    )
    filled = [suite for suite in suites if suite.report.results.entries]
    return environment.get_template("leaderboard.html").render(
        policy=Markup(policy),
        style=Markup(style),
        script=Markup(script),
        data=htmlsafe_json_dumps(
            SiteData(filled, out).build(), separators=(",", ":"), allow_nan=False
        )
        if filled
        else "",
    )


def _hash_source(text: str) -> str:
    """The source expression of a Content Security Policy that allows exactly this text."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
