"""Evaluation of baseline policies and the result records of their rows."""

from __future__ import annotations

from collections.abc import Mapping
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
from obdbench.tasks.task import normalized_return
from obdbench.teachers.teacher import Teacher

EPISODES = 100
RESULTS_FOLDER = Path("leaderboards/results/embedded")


def write_row(
    dataset: Dataset,
    objective: str,
    returns: Mapping[int, Array],
    out: Path,
    *,
    params: Mapping[str, Any] | None = None,
    steps: int = 0,
    seconds: float = 0.0,
    teacher: Teacher | None = None,
) -> Result:
    """Write the record of one baseline on one dataset.

    ``returns`` has the returns of each seed, shape (policy, episode).
    """
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
            returns=rows.tolist(),
            normalized_return=float(normalized_return(dataset.task, rows.ravel()).mean()),
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
