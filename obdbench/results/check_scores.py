"""Checks that scores follow from the raw returns in the same record."""

from __future__ import annotations

import math

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError
from obdbench.results.record import Point, Result
from obdbench.tasks.task import TASKS, Task, find_task_by_environment

TOLERANCE = 0.05  # of the normalized score, because compact copies round returns
LARGEST_SCORE = 1e9  # no return of any task comes near it
REMEDY = "Run the trial again."


def check_scores(file: str, record: Result) -> None:
    """Raise an error unless the scores of a record follow from its returns."""
    if record.status == "ok" and not record.points:
        raise InvalidDataError(f"{file} is ok but has no scores.", REMEDY)
    if not record.points:
        return
    task = _find_task(file, record)
    for point in record.points:
        _check_point(file, task, point)


def find_dataset_task(dataset: str) -> Task | None:
    """Return the task that the identifier of a dataset names, if it names one."""
    parsed = DatasetId(dataset)
    return TASKS[parsed.task_name] if parsed.names_task and parsed.task_name else None


def _find_task(file: str, record: Result) -> Task:
    """Return the task whose environment the record names, if its dataset allows that task."""
    env_id = record.environment.env_id if record.environment else None
    task = find_task_by_environment(env_id or "")
    if task is None:
        named = f"an unknown environment, {env_id!r}" if env_id else "no environment"
        raise InvalidDataError(f"{file} names {named}, so its scores cannot be checked.", REMEDY)
    named_task = find_dataset_task(record.spec.dataset)
    is_minari = DatasetId(record.spec.dataset).source == "minari"  # recorded in v4 or v5
    name = task.name.removesuffix("-v5") if is_minari else task.name
    if named_task is not None and named_task.name != name:
        raise InvalidDataError(
            f"{file} was scored in {env_id}, which is not the environment of "
            f"{record.spec.dataset}.",
            REMEDY,
        )
    return task


def _check_point(file: str, task: Task, point: Point) -> None:
    location = f"seed {point.seed} at step {point.step}"
    if not point.returns or not all(point.returns):
        raise InvalidDataError(f"{file} scores {location} without returns of episodes.", REMEDY)
    returns = [value for policy in point.returns for value in policy]
    if max(map(abs, (point.normalized_return, *returns))) > LARGEST_SCORE:
        raise InvalidDataError(f"{file} has impossibly large scores.", REMEDY)
    raw = math.fsum(returns) / len(returns)
    score = 100.0 * (raw - task.random_return) / (task.expert_return - task.random_return)
    if abs(score - point.normalized_return) > TOLERANCE:
        raise InvalidDataError(
            f"{file} gives {location} a normalized return of {point.normalized_return:.2f}, but "
            f"its episodes give {score:.2f}.",
            "Scores are normalized from 0 to 100; run the trial again.",
        )
