"""Scores must follow from the raw returns beside them, on the scale of their dataset's task."""

from __future__ import annotations

import math

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError
from obdbench.results.record import Point, Result
from obdbench.tasks.task import TASKS, Task

TOLERANCE = 0.05  # of the normalized score; compact copies may round their returns
LARGEST = 1e9  # no return of any task comes near it
_BY_ENV = {task.env_id: task for task in TASKS.values()}


def check_scores(file: str, record: Result) -> None:
    """Refuse scores that cannot be computed again from what the record holds."""
    if record.status == "ok" and not record.points:
        raise InvalidDataError(f"{file} is ok but scores nothing.", "Run the trial again.")
    if not record.points:
        return
    task = _task_of(file, record)
    for point in record.points:
        _check(file, task, point)


def task_of_dataset(dataset: str) -> Task | None:
    """The task that a dataset's identifier tells of; None for names of one's own."""
    parsed = DatasetId(dataset)
    return TASKS[parsed.task_name] if parsed.names_task and parsed.task_name else None


def _task_of(file: str, record: Result) -> Task:
    """The task whose environment the record was measured in, if it may have been."""
    where = record.environment.env_id if record.environment else None
    task = _BY_ENV.get(where or "")
    if task is None:
        held = f"an unknown environment, {where!r}" if where else "no environment"
        raise InvalidDataError(
            f"{file} names {held}, so that its scores cannot be checked.", "Run the trial again."
        )
    wanted = task_of_dataset(record.spec.dataset)
    if wanted not in (None, task):
        raise InvalidDataError(
            f"{file} was scored in {where}, which is not the environment of {record.spec.dataset}.",
            "Run the trial again.",
        )
    return task


def _check(file: str, task: Task, point: Point) -> None:
    where = f"seed {point.seed} at step {point.step}"
    if not point.returns or not all(point.returns):
        raise InvalidDataError(
            f"{file} scores {where} without the returns of its episodes.", "Run the trial again."
        )
    held = [value for returns in point.returns for value in returns]
    if max(map(abs, (point.normalized_return, *held))) > LARGEST:
        raise InvalidDataError(f"{file} holds scores beyond all bounds.", "Run the trial again.")
    raw = math.fsum(held) / len(held)
    score = 100.0 * (raw - task.random_return) / (task.expert_return - task.random_return)
    if abs(score - point.normalized_return) > TOLERANCE:
        raise InvalidDataError(
            f"{file} gives {where} a normalized return of {point.normalized_return:.2f}, but its "
            f"episodes make {score:.2f}.",
            "Scores are normalized from 0 to 100; run the trial again.",
        )
