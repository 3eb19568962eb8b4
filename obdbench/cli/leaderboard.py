"""Commands that read results: ``leaderboard`` and ``show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from obdbench.errors import InvalidSettingError, strip_control_characters
from obdbench.reporting.publish import publish as copy


def leaderboard(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of suites' results; results/ below --to by default."),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder of leaderboards.")] = Path(
        "leaderboards"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Only compare the tables with the results.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Also write one static page.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Make unreadable results an error.")
    ] = False,
    publish: Annotated[
        list[Path] | None,
        typer.Option("--publish", help="First copy a run's results, RESULTS/SUITE, compactly."),
    ] = None,
) -> None:
    """Write the leaderboards that follow from results, or check those that are there."""
    from obdbench.reporting import pages as report

    if check and (publish or html):
        raise InvalidSettingError(
            "--check writes nothing, while --publish and --html do.", "Give them in two calls."
        )
    for folder in publish or []:
        typer.echo(f"Published {folder} to {copy(folder, to, strict=strict)}.")
    out = out or to / "results"
    also = [page for page in (Path("README.md"),) if page.is_file() and out == to / "results"]
    if check:
        problems = report.check_pages(out, to, also=also)
        for problem in problems:
            typer.echo(strip_control_characters(problem), err=True)
        if problems:
            raise typer.Exit(1)
        typer.echo(f"{to} follows from {out}.")
        return
    report.write_pages(out, to, strict=strict, also=also)
    if html:
        from obdbench.reporting import html as page

        typer.echo(page.write(out, to))
    typer.echo(f"Wrote {to}.")


def show(
    path: Annotated[Path, typer.Argument(help="A result (.json) or a synset (.safetensors).")],
) -> None:
    """Show what a result or a synset holds."""
    from obdbench.reporting.show import show as render

    typer.echo(render(path))
