"""``obdbench export``: synsets for other libraries, and tables of results for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from obdbench.errors import InvalidSettingError
from obdbench.io import write_file


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A synset (.safetensors), or a folder with results, RESULTS/SUITE."),
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Of a synset: d3rlpy, hdf5 (D4RL), minari, npz or torch. Of results: csv, json "
            "or latex. By default the suffix of TO selects it.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="File to write; for Minari, the name of the new dataset. Results are printed if "
            "it is missing.",
        ),
    ] = None,
) -> None:
    """Export a synset for another library, or results as tables."""
    if source.suffix == ".safetensors":
        from obdbench.distillation.synset import Synset

        if to is None:
            raise InvalidSettingError("The export of a synset needs a file.", "Give it with --to.")
        typer.echo(f"Wrote {Synset.load(source).export(to, format_)}.")
        return
    from obdbench.reporting.exports import export_results

    suffixes = {".csv": "csv", ".json": "json", ".tex": "latex"}
    implied = suffixes.get(to.suffix) if to is not None else "csv"
    table_format = format_ or implied
    if table_format is None:
        raise InvalidSettingError(
            f"The suffix of {to} belongs to no format of tables.",
            f"Use {', '.join(suffixes)}, or give --format.",
        )
    text = export_results(source, table_format)
    if to is None:
        typer.echo(text, nl=False)
    else:
        write_file(to, text.encode())
        typer.echo(f"Wrote {to}.")
