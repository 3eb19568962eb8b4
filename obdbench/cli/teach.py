"""``obdbench teach``: train a teacher offline on any dataset."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from obdbench.cli.options import INTERRUPTED, Plugins, Sets, TaskName, add_task, parse_assignments
from obdbench.errors import InvalidSettingError, count_noun
from obdbench.plugins import load_plugins

if TYPE_CHECKING:
    from obdbench.datasets.dataset import Dataset
    from obdbench.teachers.teacher import Teacher


def teach(
    dataset: Annotated[
        str, typer.Argument(help="Dataset identifier, for example file:hopper-mine.hdf5.")
    ],
    task: TaskName = None,
    algorithm: Annotated[
        str,
        typer.Option("--algorithm", help="Offline RL algorithm: td3-bc, iql, cal-ql or fitted-q."),
    ] = "td3-bc",
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="Policy whose action value fitted-q estimates: a registered name or the path of a "
            "policy file.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Gradient steps.")] = 200_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of weights and batches.")] = 0,
    set_: Sets = None,
    plugin: Plugins = None,
    threads: Annotated[int, typer.Option("--threads", min=1, max=1024, help="Torch threads.")] = 1,
    episodes: Annotated[
        int,
        typer.Option(
            "--episodes", min=0, help="Episodes that measure the trained policy; 0 for none."
        ),
    ] = 20,
    export: Annotated[
        Path | None, typer.Option("--export", help="Also write the teacher to this file.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace a finished teacher of this algorithm.")
    ] = False,
    card: Annotated[
        bool, typer.Option("--card", help="Print the complete card of the teacher as JSON.")
    ] = False,
) -> None:
    """Train a teacher offline; later commands find it by the dataset's identifier.

    The teacher is the policy after the last step; no return in an environment takes part in the
    training. An interrupted training continues where it was, and a finished one is not repeated.
    `--algorithm fitted-q --policy FILE` adds a critic to a policy without one.
    """
    import torch

    from obdbench.datasets.loading import load_dataset
    from obdbench.offline_rl.api import train_teacher

    torch.set_num_threads(threads)
    load_plugins(plugin or ())
    (dataset,) = add_task([dataset], task)
    loaded, settings = load_dataset(dataset), parse_assignments(set_)
    request: dict[str, Any] = {"steps": steps, "seed": seed, "settings": settings, "policy": policy}
    teacher = None if fresh else find_requested_teacher(loaded, algorithm, request)
    if teacher is not None:
        typer.echo("This teacher is already trained; --fresh trains it again.", err=True)
    else:
        try:
            teacher = train_teacher(loaded, algorithm, episodes=episodes, **request)
        except KeyboardInterrupt:
            typer.echo("Interrupted; the same command continues the training.", err=True)
            sys.exit(INTERRUPTED)
    if export is not None:
        teacher.save(export)
    if card:
        typer.echo(json.dumps(dict(teacher.card), indent=1))
    else:
        typer.echo(describe_teacher(teacher.card))


def find_requested_teacher(
    dataset: Dataset, algorithm: str, request: Mapping[str, Any]
) -> Teacher | None:
    """The finished teacher of an equal request; one of another request is an error."""
    from obdbench.offline_rl.api import find_finished_teacher
    from obdbench.offline_rl.trainer import algorithm_settings

    settings = asdict(algorithm_settings(algorithm, request["settings"]))
    teacher = find_finished_teacher(dataset, algorithm)
    if teacher is None:
        return None
    requested = {"steps": request["steps"], "seed": request["seed"], "settings": settings}
    differing = [name for name, value in requested.items() if teacher.card.get(name) != value]
    if request["policy"] is not None:  # it may have changed
        differing.append("policy")
    if not differing:
        return teacher
    raise InvalidSettingError(
        f"{dataset.id} has a finished teacher of {algorithm} with other {' and '.join(differing)}.",
        "Add --fresh to replace it.",
    )


def describe_teacher(card: Mapping[str, Any]) -> str:
    """The return of a trained teacher and its statistics on held-out transitions."""
    lines = [f"Later commands find this teacher of {card['id']} as {card['algorithm']}."]
    if measured := card.get("measured"):
        several = measured["episodes"] > 1
        spread = f" ± {measured['standard_deviation']:.1f}" if several else ""
        lines.append(
            f"Score: {measured['normalized_return']:.1f}{spread} over "
            f"{count_noun(measured['episodes'], 'episode')} of {measured['environment']}."
        )
    if held_out := card["held_out"]:
        share = held_out["action_variance_share"]
        lines.append(
            f"Held-out transitions: the policy misses {share:.0%} of the variance of the data's "
            "actions, and the correlation of values and returns is "
            f"{held_out['value_return_correlation']:.2f}."
        )
        if share > 1:
            lines.append("A constant action would miss less: train longer, with --steps.")
    return "\n".join(lines)
