"""Evaluation of baseline policies and the result records of their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from obdbench.datasets.dataset import Array, Dataset
from obdbench.distillation.settings import DistillSettings
from obdbench.experiments.spec import TrialSpec
from obdbench.results.provenance import describe_environment
from obdbench.results.record import DataIdentity, Point, Result, Timing, utc_now
from obdbench.results.store import ResultStore
from obdbench.tasks.rollout import run_episodes
from obdbench.tasks.task import Task, normalized_return
from obdbench.teachers.teacher import Teacher

EPISODES = 100
RESULTS_FOLDER = Path("leaderboards/results/embedded")


def deterministic_returns(
    policies: Sequence[Callable[[Array], Array]], task: Task, episodes: int, first_seed: int = 0
) -> list[list[float]]:
    """Returns of each policy from the same initial states, all in one rollout."""
    seeds = list(range(first_seed, first_seed + episodes)) * len(policies)

    def act(observations: Array, slots: Array) -> Array:
        actions = np.empty((len(slots), task.action_size), np.float32)
        for index, policy in enumerate(policies):
            own_slots = slots // episodes == index
            if own_slots.any():
                actions[own_slots] = policy(observations[own_slots])
        return actions

    returns = run_episodes(act, task, seeds).returns
    return [[float(value) for value in row] for row in returns.reshape(len(policies), episodes)]


def write_row(
    dataset: Dataset,
    objective: str,
    returns: Mapping[int, list[list[float]]],
    out: Path,
    *,
    params: Mapping[str, Any] | None = None,
    steps: int = 0,
    seconds: float = 0.0,
    teacher: Teacher | None = None,
) -> Result:
    """Write the record of one baseline on one dataset; ``returns`` are those of each seed."""
    spec = TrialSpec(
        dataset=dataset.id,
        objective=objective,
        objective_params=dict(params or {}),
        settings=DistillSettings(steps=steps, evaluate_at=(1.0,)),
        seeds=tuple(sorted(returns)),
    )
    points = [
        Point(
            seed=seed,
            step=steps,
            arm="default",
            returns=rows,
            normalized_return=float(normalized_return(dataset.task, np.concatenate(rows)).mean()),
        )
        for seed, rows in sorted(returns.items())
    ]
    result = Result(
        key=spec.key,
        suite=out.name,
        spec=spec,
        status="ok",
        points=points,
        timing=Timing(started=utc_now(), distill=round(seconds, 1)),
        environment=describe_environment(
            dataset.task.env_id, "cpu", torch.get_num_threads(), dataset.task.reference_returns
        ),
        dataset=DataIdentity(id=dataset.id, checksum=dataset.checksum, size=len(dataset)),
        teacher=None if teacher is None else DataIdentity(id=teacher.id, checksum=teacher.checksum),
    )
    out.mkdir(parents=True, exist_ok=True)
    ResultStore(out.parent, out.name).save(result)
    return result


def format_result(result: Result) -> str:
    """One line for the terminal: dataset, row, mean and standard deviation over seeds."""
    scores = [point.normalized_return for point in result.points]
    spread = f" ± {np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    return f"{result.spec.dataset}  {result.spec.objective}  {np.mean(scores):.1f}{spread}"
