"""The user's files in D4RL's layout: ``file:PATH.hdf5`` and ``file:PATH.npz``.

A file contains ``observations``, ``actions``, ``rewards``, ``terminals`` and, optionally,
``timeouts`` and ``next_observations``. With next observations every row is a transition; without
them the rows are converted as by D4RL's ``qlearning_dataset``. Columns with one number per row may
have the shape (N, 1). Actions are in the units of the environment and are scaled to -1 to 1.

The task is the one after ``#``, as in ``file:my-data.npz#task=hopper``, else that of the file's
attribute ``task`` (in an NPZ file, the array ``task``), else the one with which the file's name
begins.
"""

from __future__ import annotations

from pathlib import Path

from obdbench.datasets.arrays import (
    flatten_columns,
    read_arrays,
    read_task_name,
    require_columns,
)
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.transitions import as_float32, qlearning_columns
from obdbench.errors import InvalidDataError, InvalidSettingError, unknown_name
from obdbench.registry import tasks
from obdbench.tasks.action_bounds import to_unit_actions
from obdbench.tasks.task import Task, get_task

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")


def load(dataset_id: str) -> Dataset:
    """Read ``file:PATH`` or ``file:PATH#TASK``."""
    path, task = resolve_path_and_task(dataset_id)
    columns = read_arrays(path, (*REQUIRED, *OPTIONAL), task)
    require_columns(path, columns, REQUIRED)
    columns = flatten_columns(path, columns)
    if "next_observations" in columns:
        arrays = {
            name: column.astype(bool) if name in ("terminals", "timeouts") else as_float32(column)
            for name, column in columns.items()
        }
    else:
        arrays = qlearning_columns(columns, task.episode_limit)
    arrays["actions"] = to_unit_actions(task, arrays["actions"])
    return Dataset(id=dataset_id, task=task, card={"file": path.name}, **arrays)


def resolve_path_and_task(dataset_id: str) -> tuple[Path, Task]:
    """The path and the task that an identifier names."""
    parsed = DatasetId(dataset_id)
    if not parsed.name:
        raise InvalidSettingError(f"{dataset_id!r} names no file.", "Write file:PATH.hdf5.")
    path = parsed.path
    name = parsed.fragment or read_task_name(path) or parsed.task_name
    if name is None and not path.is_file():
        raise InvalidDataError(f"There is no file {path}.", "Check the path.")
    if name is None:
        raise InvalidSettingError(
            f"The name of {path.name} does not begin with a task.",
            f"Write the task after '#': {dataset_id}#hopper. Known: {', '.join(tasks.names())}.",
        )
    if name not in tasks:
        raise unknown_name("task", name, tasks.names())
    return path, get_task(name)
