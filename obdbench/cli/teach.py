"""``obdbench teach``: train a teacher offline on any dataset."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from obdbench.cli.options import INTERRUPTED, Plugins, Sets, TaskName, add_task, parse_assignments
from obdbench.plugins import load_plugins


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
    card: Annotated[
        bool, typer.Option("--card", help="Print the complete card of the teacher as JSON.")
    ] = False,
) -> None:
    """Train a teacher offline; later commands find it by the dataset's identifier.

    The teacher is the policy after the last step; no return in an environment takes part in the
    training. An interrupted training continues where it was. `--algorithm fitted-q --policy FILE`
    adds a critic to a policy without one.
    """
    import torch

    from obdbench.offline_rl.api import train_teacher

    torch.set_num_threads(threads)
    load_plugins(plugin or ())
    (dataset,) = add_task([dataset], task)
    try:
        teacher = train_teacher(
            dataset,
            algorithm,
            steps=steps,
            seed=seed,
            settings=parse_assignments(set_),
            policy=policy,
            episodes=episodes,
        )
    except KeyboardInterrupt:
        typer.echo("Interrupted; the same command continues the training.", err=True)
        sys.exit(INTERRUPTED)
    if export is not None:
        teacher.save(export)
    if card:
        typer.echo(json.dumps(dict(teacher.card), indent=1))
    else:
        typer.echo(describe_teacher(teacher.card))


def describe_teacher(card: Mapping[str, Any]) -> str:
    """The return of a trained teacher and its statistics on held-out transitions."""
    lines = [f"Later commands find this teacher of {card['id']} as {card['algorithm']}."]
    if measured := card.get("measured"):
        lines.append(
            f"Score: {measured['normalized_return']:.1f} ± {measured['standard_deviation']:.1f} "
            f"over {measured['episodes']} episodes of {measured['environment']}."
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
