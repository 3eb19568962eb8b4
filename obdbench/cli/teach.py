"""``obdbench teach``: train a teacher offline on any dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from obdbench.cli.options import Sets, TaskName, add_task, parse_assignments


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
) -> None:
    """Train a teacher offline; later commands find it by the dataset's identifier.

    The teacher is the policy after the last step; no return in an environment takes part in the
    training. An interrupted training continues where it was. `--algorithm fitted-q --policy FILE`
    adds a critic to a policy without one.
    """
    import torch

    from obdbench.offline_rl.api import train_teacher

    torch.set_num_threads(threads)
    (dataset,) = add_task([dataset], task)
    teacher = train_teacher(
        dataset,
        algorithm,
        steps=steps,
        seed=seed,
        settings=parse_assignments(set_),
        policy=policy,
        episodes=episodes,
    )
    if export is not None:
        teacher.save(export)
    typer.echo(json.dumps(dict(teacher.card), indent=1))
