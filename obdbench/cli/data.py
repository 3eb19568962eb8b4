"""``obdbench data``: what data there is, getting it, making it, and checking it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidSettingError, strip_control_characters, unknown_name
from obdbench.registry import datasets

app = typer.Typer(help="Datasets and teachers.", no_args_is_help=True)

Ids = Annotated[
    list[str], typer.Argument(help="Identifiers, or patterns such as 'recon/*'.", metavar="ID...")
]
Progress = Annotated[bool, typer.Option(help="Show progress bars.")]


@app.command("list")
def list_datasets(
    pattern: Annotated[str, typer.Argument(help="Only those that match.")] = "*",
) -> None:
    """List datasets and whether they are at hand."""
    names = [name for name in datasets.names() if fnmatchcase(name, pattern)]
    if not names:
        typer.echo(
            f"Nothing matches {strip_control_characters(pattern)!r}. `obdbench data list` lists all.",
            err=True,
        )
    width = max((len(name) for name in names), default=0)
    for name in names:
        typer.echo(f"{name:<{width}}  {_state(name):<12}  {datasets.entry(name).summary}".rstrip())


@app.command()
def fetch(ids: Ids, progress: Progress = True) -> None:
    """Download genuine datasets, and the published teachers of d4rl/ and recon/ identifiers."""
    from obdbench.datasets.loading import load_dataset

    for dataset_id in _matching(ids):
        source, _, name = dataset_id.partition("/")
        if source == "d4rl":
            from obdbench.datasets.d4rl import locate

            typer.echo(f"{dataset_id}: {locate(name, progress=progress)}")
        elif source == "minari":
            typer.echo(f"{dataset_id}: {len(load_dataset(dataset_id)):,} transitions")
        elif source != "recon":
            raise InvalidSettingError(
                f"{dataset_id} is not fetched from anywhere.",
                "Fetch d4rl/, minari/ or recon/ identifiers; build embedded/ ones.",
            )
        for teacher in _published_teachers(source, name):
            from obdbench.teachers.published import download_checkpoint

            typer.echo(f"{dataset_id}: {download_checkpoint(teacher, progress=progress)}")


@app.command()
def build(
    ids: Ids,
    force: Annotated[bool, typer.Option("--force", help="Build again what is there.")] = False,
    run_folder: Annotated[
        Path | None, typer.Option(help="Folder of the SAC run (embedded/ only).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the packed file (embedded/ only).")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=10_000, help="Steps of the SAC run (embedded/ only).")
    ] = None,
    progress: Progress = True,
) -> None:
    """Make stand-ins (recon/) from the teachers, or run the recipe of embedded/ datasets anew."""
    for dataset_id in _matching(ids):
        source = dataset_id.partition("/")[0]
        if source == "recon":
            from obdbench.collection import reconstruct

            dataset = reconstruct.load(dataset_id, force=force)
            typer.echo(f"{dataset_id}: {len(dataset):,} transitions, {_agreement(dataset.card)}")
        elif source == "embedded":
            from obdbench.collection import recipe

            path = recipe.build(
                dataset_id, run_folder=run_folder, out=out, steps=steps, progress=progress
            )
            typer.echo(f"{dataset_id}: {path}")
        else:
            raise InvalidSettingError(
                f"{dataset_id} cannot be built.", "Build recon/ or embedded/ identifiers."
            )


@app.command()
def verify(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Datasets to load and check.", metavar="[ID...]")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each teacher.")] = 20,
) -> None:
    """Check datasets; without identifiers, the published teachers against the paper's scores."""
    problems = list(_verify_datasets(ids, episodes) if ids else _verify_teachers(episodes))
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)


def _verify_teachers(episodes: int) -> Iterator[str]:
    from obdbench.teachers import published_scores

    typer.echo(f"{'published teacher':<30} {'measured':>8} {'paper':>8} {'differs':>8}")
    found: list[published_scores.TeacherComparison] = []
    for each in published_scores.compare_published_teachers(episodes):
        found.append(each)
        line = f"{each.name:<30} {each.measured:>8.1f} {each.published:>8.1f} "
        typer.echo(f"{line}{each.difference:>+8.1f}{'' if each.agrees else '  !'}")
        if not each.agrees:
            yield f"{each.name} differs by more than {published_scores.MAX_DIFFERENCE:.0f} points."
    mean = published_scores.mean_difference(found)
    typer.echo(f"{'mean':<47} {'':>1}{mean:>+8.1f}")
    if abs(mean) > published_scores.MAX_MEAN_DIFFERENCE:
        yield f"The mean differs by more than {published_scores.MAX_MEAN_DIFFERENCE:.0f} points."


def _verify_datasets(ids: Iterable[str], episodes: int) -> Iterator[str]:
    from obdbench.datasets.loading import load_dataset
    from obdbench.teachers import published_scores
    from obdbench.teachers.loading import load_teacher

    for dataset_id in _matching(ids):
        dataset = load_dataset(dataset_id)
        typer.echo(f"{dataset_id}: {len(dataset):,} transitions, SHA-256 {dataset.checksum}")
        if dataset_id.startswith("recon/"):
            typer.echo(f"  {_agreement(dataset.card)}")
            if not dataset.card["within_goal"]:
                yield f"{dataset_id} is farther from the genuine moments than it should be."
        elif dataset.card.get("mismatches", "none") != "none":
            yield f"{dataset_id}: {dataset.card['mismatches']}."
        if dataset_id.startswith(("embedded/", "recon/", "d4rl/")):
            scores = published_scores.evaluate_teacher(
                load_teacher(dataset_id), dataset.task, episodes
            )
            typer.echo(f"  teacher: normalized return {scores.mean():.1f} over {episodes} episodes")


def _agreement(card: object) -> str:
    assert isinstance(card, dict)
    return (
        f"means off by {card['mean_error']:.3f} spreads, spread ratios "
        f"{card['spread_ratio_smallest']:.2f} to {card['spread_ratio_largest']:.2f} "
        f"(median {card['spread_ratio_median']:.2f})"
    )


def _matching(ids: Iterable[str]) -> list[str]:
    """Registered names for patterns; other names of open sources as they are."""
    found: list[str] = []
    for wanted in ids:
        if any(sign in wanted for sign in "*?["):
            names = [name for name in datasets.names() if fnmatchcase(name, wanted)]
            if not names:
                raise unknown_name("dataset", wanted, datasets.names())
            found += names
        elif DatasetId(wanted).is_open:
            found.append(wanted)
        else:
            found.append(datasets.resolve_name(wanted))
    return list(dict.fromkeys(found))


def _published_teachers(source: str, name: str) -> list[str]:
    if source not in ("d4rl", "recon"):
        return []
    from obdbench.teachers.published import published_teachers

    task = name.split("-")[0]
    wanted = published_teachers() if source == "recon" else [name]
    return [each for each in published_teachers() if each in wanted and each.startswith(f"{task}-")]


def _state(dataset_id: str) -> str:
    source, _, name = dataset_id.partition("/")
    if source == "embedded":
        from obdbench.datasets.embedded import FILES

        return "shipped" if (FILES / f"{name}.npz").is_file() else "absent"
    if source == "recon":
        from obdbench.collection.reconstruct import cache_path

        return "built" if cache_path(name).is_file() else "not built"
    if source == "d4rl":
        from obdbench.datasets.d4rl import kept

        return "fetched" if kept(name) else "not fetched"
    return "on demand"
