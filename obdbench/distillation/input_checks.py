"""Checks of a distillation's data and teacher before any work."""

from __future__ import annotations

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.dynamics_model import require_next_observations
from obdbench.distillation.initialization import needs_critic
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.state_sources.state_source import uses_next_observations
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import Objective
from obdbench.teachers.teacher import Teacher


def check_inputs(
    objective: Objective, settings: DistillSettings, dataset: Dataset, teacher: Teacher | None
) -> None:
    """Raise an error if the data or the teacher lack what a distillation uses."""
    if objective.distills and uses_next_observations(settings):
        require_next_observations(dataset)
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
