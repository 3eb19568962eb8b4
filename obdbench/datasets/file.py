"""The user's files in D4RL's layout: ``file:PATH.hdf5`` and ``file:PATH.npz``.

A file contains ``observations``, ``actions``, ``rewards``, ``terminals`` and, optionally,
``timeouts`` and ``next_observations``. With next observations every row is a transition; without
them the rows are converted as by D4RL's ``qlearning_dataset``. Actions lie within -1 and 1; columns
with one number per row may have the shape (N, 1). The task is the one with which the file's name
begins, or the one behind a ``#``: ``file:my-data.npz#hopper``.
"""

from __future__ import annotations

from pathlib import Path

from obdbench.datasets.arrays import flatten_columns, read_arrays, require_columns
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.transitions import as_float32, qlearning_columns
from obdbench.errors import InvalidSettingError, unknown_name
from obdbench.tasks.task import TASKS, Task

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
    return Dataset(id=dataset_id, task=task, card={"file": path.name}, **arrays)


def resolve_path_and_task(dataset_id: str) -> tuple[Path, Task]:
    """The path and the task that an identifier names."""
    parsed = DatasetId(dataset_id)
    if not parsed.name:
        raise InvalidSettingError(f"{dataset_id!r} names no file.", "Write file:PATH.hdf5.")
    try:
        path = Path(parsed.name).expanduser()
    except RuntimeError as error:
        raise InvalidSettingError(
            f"{parsed.name!r} is no path: {error}.", "Write it in full."
        ) from error
    if parsed.task_name is not None:
        return path, TASKS[parsed.task_name]
    if parsed.fragment:
        raise unknown_name("task", parsed.fragment, TASKS)
    raise InvalidSettingError(
        f"The name of {path.name} does not begin with a task.",
        f"Write the task behind a '#': {dataset_id}#hopper. Known: {', '.join(TASKS)}.",
    )
