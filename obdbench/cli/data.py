"""``obdbench data``: list, fetch, build and verify datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from obdbench.cli.options import Plugins, TaskName, add_task
from obdbench.datasets.identifier import DatasetId, resolve_registered_name
from obdbench.errors import (
    InvalidDataError,
    InvalidSettingError,
    strip_control_characters,
    unknown_name,
)
from obdbench.plugins import load_plugins
from obdbench.registry import datasets

app = typer.Typer(help="Datasets and teachers.", no_args_is_help=True)

Ids = Annotated[
    list[str], typer.Argument(help="Identifiers, or patterns such as 'd4rl/*'.", metavar="ID...")
]
Progress = Annotated[bool, typer.Option(help="Show progress bars.")]


@app.command("list")
def list_datasets(
    pattern: Annotated[str, typer.Argument(help="List only matching identifiers.")] = "*",
) -> None:
    """List datasets and whether they are on this machine."""
    names = [name for name in datasets.names() if fnmatchcase(name, pattern)]
    if not names:
        typer.echo(
            f"Nothing matches {strip_control_characters(pattern)!r}. `obdbench data list` lists "
            "all datasets.",
            err=True,
        )
    width = max((len(name) for name in names), default=0)
    for name in names:
        summary = datasets.entry(name).summary
        typer.echo(f"{name:<{width}}  {_availability(name):<12}  {summary}".rstrip())


@app.command()
def fetch(ids: Ids, progress: Progress = True) -> None:
    """Download datasets, and the published teachers of d4rl/ identifiers."""
    from obdbench.datasets.d4rl import fetch_file
    from obdbench.datasets.loading import load_dataset
    from obdbench.teachers.published import download_checkpoint, published_teachers

    for dataset_id in _resolve(ids):
        parsed = DatasetId(dataset_id)
        if parsed.source == "d4rl":
            typer.echo(f"{dataset_id}: {fetch_file(parsed.name, progress=progress)}")
            if parsed.name in published_teachers():
                path = download_checkpoint(parsed.name, progress=progress)
                typer.echo(f"{dataset_id}: {path}")
        elif parsed.source == "minari":
            typer.echo(f"{dataset_id}: {len(load_dataset(dataset_id)):,} transitions")
        else:
            raise InvalidSettingError(
                f"{dataset_id} cannot be downloaded.",
                "Fetch d4rl/ or minari/ identifiers; build embedded/ ones.",
            )


@app.command()
def build(
    ids: Ids,
    run_folder: Annotated[
        Path | None,
        typer.Option(help="Folder of an existing SAC run of the task."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for packed files and full collections."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=100_000, help="Steps of the SAC run; a shorter run is continued."),
    ] = None,
    transitions: Annotated[
        int | None,
        typer.Option(min=1_000, help="Size of full collections; default: D4RL's."),
    ] = None,
    progress: Progress = True,
) -> None:
    """Build embedded datasets: apply D4RL's recipe to a SAC run."""
    from obdbench.collection import recipe

    for dataset_id in _resolve(ids):
        path = recipe.build(
            dataset_id,
            run_folder=run_folder,
            out=out,
            steps=steps,
            transitions=transitions,
            progress=progress,
        )
        typer.echo(f"{dataset_id}: {path}")


@app.command()
def verify(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Datasets to load and check.", metavar="[ID...]")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes per teacher.")] = 20,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of the packed files instead of the package's (embedded/ only)."),
    ] = None,
    task: TaskName = None,
    plugin: Plugins = None,
) -> None:
    """Check datasets; without identifiers, compare published teachers with the paper's scores."""
    load_plugins(plugin or ())
    names = _resolve(add_task(ids, task))
    checks = _verify_datasets(names, episodes, folder) if ids else _verify_teachers(episodes)
    problems = list(checks)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)


def _verify_teachers(episodes: int) -> Iterator[str]:
    from obdbench.teachers import published_scores

    typer.echo(f"{'published teacher':<30} {'measured':>8} {'paper':>8} {'differs':>8}")
    differences: list[float] = []
    for name, measured, paper in published_scores.compare_published_teachers(episodes):
        differences.append(measured - paper)
        agrees = abs(differences[-1]) <= published_scores.MAX_DIFFERENCE
        line = f"{name:<30} {measured:>8.1f} {paper:>8.1f} {differences[-1]:>+8.1f}"
        typer.echo(line if agrees else f"{line}  !")
        if not agrees:
            yield f"{name} differs by more than {published_scores.MAX_DIFFERENCE:.0f} points."
    mean = sum(differences) / len(differences)
    typer.echo(f"{'mean':<47} {'':>1}{mean:>+8.1f}")
    if abs(mean) > published_scores.MAX_MEAN_DIFFERENCE:
        yield f"The mean differs by more than {published_scores.MAX_MEAN_DIFFERENCE:.0f} points."


def _verify_datasets(ids: Iterable[str], episodes: int, folder: Path | None) -> Iterator[str]:
    from obdbench.datasets import embedded
    from obdbench.datasets.loading import load_dataset
    from obdbench.datasets.statistics import (
        format_comparison,
        return_difference,
        return_tolerance,
    )
    from obdbench.teachers.loading import has_default_teacher, load_teacher
    from obdbench.teachers.published_scores import evaluate_teacher

    for dataset_id in ids:
        packed = folder if DatasetId(dataset_id).source == "embedded" else None
        try:
            dataset = embedded.load(dataset_id, packed) if packed else load_dataset(dataset_id)
        except InvalidDataError as error:
            yield str(error)
            continue
        has_teacher = packed is None and has_default_teacher(dataset_id)
        typer.echo(f"{dataset_id}: {len(dataset):,} transitions, SHA-256 {dataset.checksum}")
        for line in format_comparison(dataset):
            typer.echo(line)
        difference, tolerance = return_difference(dataset), return_tolerance(dataset)
        if difference is not None:
            typer.echo(f"  mean return: {difference:+.1f} points from D4RL's")
            if "d4rl" in dataset.card and abs(difference) > tolerance:
                yield (
                    f"{dataset_id}: the mean return differs from D4RL's by {difference:+.1f} "
                    f"points; the tolerance is {tolerance:.0f}."
                )
        if dataset.card.get("mismatches", "none") != "none":
            yield f"{dataset_id}: {dataset.card['mismatches']}."
        if has_teacher:
            scores = evaluate_teacher(load_teacher(dataset_id), dataset.task, episodes)
            typer.echo(f"  teacher: normalized return {scores.mean():.1f} over {episodes} episodes")


def _resolve(ids: Iterable[str]) -> list[str]:
    """Expand patterns to registered names; open sources resolve other names themselves."""
    names: list[str] = []
    for text in ids:
        if any(sign in text for sign in "*?["):
            matches = [name for name in datasets.names() if fnmatchcase(name, text)]
            if not matches:
                raise unknown_name("dataset", text, datasets.names())
            names += matches
        elif DatasetId(text).is_open:
            names.append(text)
        else:
            names.append(resolve_registered_name(text))
    return list(dict.fromkeys(names))


def _availability(dataset_id: str) -> str:
    parsed = DatasetId(dataset_id)
    if parsed.source == "embedded":
        return "included"
    if parsed.source == "d4rl":
        from obdbench.datasets.d4rl import is_local

        return "fetched" if is_local(parsed.name) else "not fetched"
    return "on demand"
