"""Checks that scores follow from the raw returns in the same record."""

from __future__ import annotations

import math

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError
from obdbench.results.record import Environment, Point, Result
from obdbench.tasks.task import MINARI_TASKS, TASKS, Task, find_descriptions

TOLERANCE = 0.05  # of the normalized score, because compact copies round returns
LARGEST_SCORE = 1e9  # no return of any task comes near it
REMEDY = "Run the trial again."


def check_scores(file: str, record: Result) -> None:
    """Raise an error unless the scores of a record follow from its returns."""
    if record.status == "ok" and not record.points:
        raise InvalidDataError(f"{file} is ok but has no scores.", REMEDY)
    if not record.points:
        return
    environment = _check_environment(file, record)
    references = find_reference_returns(environment)
    if references is not None and references[0] >= references[1]:
        raise InvalidDataError(f"{file} has reference returns {references}.", REMEDY)
    for point in record.points:
        _check_point(file, references, point)


def find_dataset_task(dataset: str) -> Task | None:
    """Return the locomotion task that the identifier of a dataset states, if it states one.

    The name of a file or of a plugin's dataset may begin with a task without stating it.
    """
    parsed = DatasetId(dataset)
    is_stated = parsed.fragment or parsed.source in ("embedded", "d4rl", "minari")
    return TASKS.get(parsed.task_name or "") if is_stated else None


def find_reference_returns(environment: Environment) -> tuple[float, float] | None:
    """Return the returns that scores are normalized with; None if the scores are raw returns.

    Those of a registered task are used rather than those of the record. If several registered tasks
    share the environment, those of the record decide between them.
    """
    registered = [task.reference_returns for task in find_descriptions(environment.env_id)]
    stated = environment.reference_returns
    return registered[0] if registered and stated not in registered else stated


def _check_environment(file: str, record: Result) -> Environment:
    """Return the environment of a record, which must be that of its dataset."""
    environment = record.environment
    if environment is None or not environment.env_id:
        raise InvalidDataError(
            f"{file} names no environment, so its scores cannot be checked.", REMEDY
        )
    task = find_dataset_task(record.spec.dataset)
    allowed = {task.env_id} if task is not None else {environment.env_id}
    if task is not None and DatasetId(record.spec.dataset).source == "minari":  # v4 or v5
        allowed.add(MINARI_TASKS[f"{task.name}-v5"].env_id)
    if environment.env_id not in allowed:
        raise InvalidDataError(
            f"{file} was scored in {environment.env_id}, which is not the environment of "
            f"{record.spec.dataset}.",
            REMEDY,
        )
    return environment


def _check_point(file: str, references: tuple[float, float] | None, point: Point) -> None:
    location = f"seed {point.seed} at step {point.step}"
    if not point.returns or not all(point.returns):
        raise InvalidDataError(f"{file} scores {location} without returns of episodes.", REMEDY)
    returns = [value for policy in point.returns for value in policy]
    if max(map(abs, (point.normalized_return, *returns))) > LARGEST_SCORE:
        raise InvalidDataError(f"{file} has impossibly large scores.", REMEDY)
    raw = math.fsum(returns) / len(returns)
    low, high = references or (0.0, 100.0)
    score = 100.0 * (raw - low) / (high - low)
    if abs(score - point.normalized_return) > TOLERANCE:
        raise InvalidDataError(
            f"{file} gives {location} a normalized return of {point.normalized_return:.2f}, but "
            f"its episodes give {score:.2f}.",
            "Scores are normalized from 0 to 100; run the trial again.",
        )
