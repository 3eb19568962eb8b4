"""Checks of a distillation's settings, data and teacher before any work."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from obdbench.datasets.dataset import Dataset, require_next_observations
from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.initialization import needs_critic
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.solvers.solver import make_solver
from obdbench.distillation.solvers.squared_distance import not_squared_distance
from obdbench.distillation.state_sources.state_source import adds_states, uses_next_observations
from obdbench.errors import InvalidDataError, InvalidSettingError
from obdbench.objectives.objective import Objective
from obdbench.teachers.teacher import Teacher


def check_compatible(objectives: Iterable[Objective], settings: Iterable[DistillSettings]) -> None:
    """Raise one error that states every objective and settings that do not work together.

    It needs no data.
    """
    errors = []
    for objective, each in product(objectives, settings):
        try:
            if objective.distills:
                _check_pair(objective, each)
        except InvalidSettingError as error:
            errors.append(error)
    if errors:
        raise InvalidSettingError(
            " ".join(dict.fromkeys(error.cause for error in errors)),
            " ".join(dict.fromkeys(error.remedy for error in errors)),
        )


def _check_pair(objective: Objective, settings: DistillSettings) -> None:
    if adds_states(settings) and not objective.uses_teacher:
        raise InvalidSettingError(
            f"The objective {objective.name!r} uses no teacher, and the states that the state "
            f"source {settings.state_source!r} adds have no recorded actions.",
            "Use an objective with a teacher, or set state_source=smoothed.",
        )
    solver = make_solver(settings.solver, settings)
    if solver.needs_squared_distance and not objective.is_squared_distance:
        raise not_squared_distance(solver.name, objective)


def check_inputs(
    objective: Objective, settings: DistillSettings, dataset: Dataset, teacher: Teacher | None
) -> None:
    """Raise an error if the data or the teacher lack what a distillation uses."""
    if objective.distills and uses_next_observations(settings):
        require_next_observations(dataset, f"the state source {settings.state_source!r}")
    if teacher is not None:
        check_teacher_task(teacher, dataset)
        if needs_critic(objective, settings):
            teacher.require_critics(dataset.id)


def check_teacher_task(teacher: Teacher, dataset: Dataset) -> None:
    """Raise an error if the sizes of a teacher, or the task in its identifier, do not match."""
    teacher_sizes = teacher.observation_size, teacher.action_size
    dataset_sizes = dataset.observation_size, dataset.action_size
    stated = DatasetId(teacher.id).task_name  # many identifiers state no task
    task = dataset.task.name
    is_other = stated not in (None, task) and not task.startswith(f"{stated}-v")
    if teacher_sizes != dataset_sizes or (is_other and teacher.id != dataset.id):
        raise InvalidDataError(
            f"The teacher {teacher.id!r} ({teacher_sizes[0]} states, {teacher_sizes[1]} actions) "
            f"does not match {dataset.task.name} ({dataset_sizes[0]} and {dataset_sizes[1]}), "
            f"the task of {dataset.id}.",
            "Give a teacher of the same task.",
        )


def check_teacher_data(teacher: Teacher, dataset: Dataset) -> None:
    """Raise an error if a teacher was trained on other data of the same ``file:`` identifier."""
    trained_on, dataset_id = teacher.card.get("data"), DatasetId(dataset.id)
    if dataset_id.source != "file":
        return  # teachers of shipped subsets are trained on the full collections
    is_same = DatasetId(teacher.id).canonical == dataset_id.canonical
    if not is_same or not isinstance(trained_on, dict):
        return
    if trained_on.get("checksum") not in (None, dataset.checksum):
        raise InvalidDataError(
            f"The teacher of {dataset.id} was trained on other data than the file now contains.",
            "Train it again with `obdbench teach`, or name another teacher with --teacher.",
        )
