"""``obdbench hub``: share synsets and results on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Share synsets and results on the Hugging Face Hub.", no_args_is_help=True)

Repository = Annotated[str, typer.Argument(help="Repository, OWNER/NAME.", metavar="REPOSITORY")]


@app.command()
def push(
    source: Annotated[
        Path,
        typer.Argument(help="A synset (.safetensors), or a folder with results, RESULTS/SUITE."),
    ],
    repository: Repository,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    message: Annotated[str, typer.Option("--message", help="Message of the commit.")] = "",
) -> None:
    """Upload a synset or the results of a suite with a generated README."""
    from obdbench.sharing.hub import push_to_hub

    typer.echo(push_to_hub(source, repository, private=private, message=message))


@app.command()
def pull(
    repository: Repository,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder for the files; by default, the repository's name."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit.")
    ] = None,
) -> None:
    """Download a synset or results, verify checksums, and check the content."""
    from obdbench.sharing.hub import pull_from_hub

    folder = to if to is not None else Path(repository.rpartition("/")[2] or ".")
    files, commit = pull_from_hub(repository, folder, revision=revision)
    for file in files[:5]:
        typer.echo(str(file))
    if len(files) > 5:
        typer.echo(f"and {len(files) - 5} more files")
    typer.echo(f"Verified {len(files)} files of commit {commit}.")
