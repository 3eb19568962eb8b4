"""Commands that read results: ``leaderboard`` and ``show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from obdbench.errors import InvalidSettingError, strip_control_characters
from obdbench.reporting.publish import publish_results
from obdbench.results.record import MANIFEST


def leaderboard(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder with the results of suites; by default TO/results."),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder of leaderboards.")] = Path(
        "leaderboards"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Only compare the pages with the results.")
    ] = False,
    html: Annotated[
        bool, typer.Option("--html", help="Also write the leaderboard site, one HTML file.")
    ] = False,
    overlay: Annotated[
        Path | None,
        typer.Option("--overlay", help="Folder of your own results to show on the site as well."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Treat unreadable results as an error.")
    ] = False,
    publish: Annotated[
        list[Path] | None,
        typer.Option("--publish", help="First copy the results of a run, RESULTS/SUITE, to TO."),
    ] = None,
) -> None:
    """Write the leaderboards of the results, or check the existing ones."""
    from obdbench.reporting.pages import check_pages, read_all_reports, write_pages
    from obdbench.reporting.site.html import read_suites, suites_of_reports, write_html

    if check and (publish or html):
        raise InvalidSettingError(
            "--check cannot be combined with --publish or --html.", "Give them in two calls."
        )
    if overlay and not html:
        raise InvalidSettingError("--overlay needs --html.", "Add --html.")
    for folder in publish or []:
        typer.echo(f"Copied {folder} to {publish_results(folder, to, strict=strict)}.")
    out = out or to / "results"
    if (to / MANIFEST).is_file():
        raise InvalidSettingError(
            f"{to} contains the results of a suite.", "Choose another folder for pages: --to."
        )
    extra_pages = [
        page for page in (Path("README.md"),) if page.is_file() and out == to / "results"
    ]
    if check:
        problems = check_pages(out, to, extra_pages=extra_pages)
        for problem in problems:
            typer.echo(strip_control_characters(problem), err=True)
        if problems:
            raise typer.Exit(1)
        typer.echo(f"The pages in {to} match the results in {out}.")
        return
    own = read_suites(overlay, strict=strict, local=True) if overlay else []
    reports = read_all_reports(out, to, strict)
    write_pages(out, to, extra_pages=extra_pages, reports=reports)
    if html:
        page = write_html(suites_of_reports(reports, out) + own, to)
        typer.echo(f"Open {page} in a browser.")
    typer.echo(f"Wrote {to}.")


def show(
    path: Annotated[Path, typer.Argument(help="A result (.json) or a synset (.safetensors).")],
) -> None:
    """Show the content of a result or a synset."""
    from obdbench.reporting.show import describe_file

    typer.echo(describe_file(path))
