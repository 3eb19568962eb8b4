"""MuJoCo datasets of Minari, through its own library (extra ``minari``).

Policies are scored in the environment in which a dataset was recorded: the ``v5`` environments for
Minari's own datasets.
"""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.datasets.download import is_offline
from obdbench.datasets.identifier import DatasetId
from obdbench.errors import (
    FetchError,
    InvalidDataError,
    InvalidSettingError,
    MissingExtraError,
    unreadable,
)
from obdbench.io import lock
from obdbench.tasks.action_bounds import to_unit_actions
from obdbench.tasks.task import find_task_by_environment, get_task

REMEDY = (
    "Check the name with `minari list remote` and the network, or set MINARI_DATASETS_PATH to a "
    "folder that contains it."
)


def load(dataset_id: str) -> Dataset:
    """A dataset such as ``minari/mujoco/hopper/medium-v0``, downloaded by Minari if necessary."""
    name = DatasetId(dataset_id).name
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "mujoco":
        raise InvalidSettingError(
            f"{dataset_id!r} is not a MuJoCo dataset of Minari.",
            "Write it as minari/mujoco/<task>/<level>-v<n>.",
        )
    base = get_task(parts[1])
    recorded = _load_from_minari(name)
    env_id = str(getattr(recorded.env_spec, "id", "unknown"))
    task = find_task_by_environment(env_id)
    if task is None or task.name.removesuffix("-v5") != base.name:
        raise InvalidDataError(
            f"{dataset_id} was recorded in the environment {env_id}.",
            f"Datasets of {base.name} are recorded in {base.env_id} or its version v5.",
        )
    columns: dict[str, list[Array]] = {}
    for episode in recorded.iterate_episodes():
        for column, values in _episode_columns(name, episode).items():
            columns.setdefault(column, []).append(values)
    if not columns:
        raise InvalidDataError(f"{dataset_id} contains no episodes.", "Fetch it again.")
    arrays = {column: np.concatenate(chunks) for column, chunks in columns.items()}
    arrays["actions"] = to_unit_actions(task, arrays["actions"])
    card = {
        "source": f"Minari, {name}",
        "environment": env_id,
        "episodes": int(recorded.total_episodes),
    }
    return Dataset(id=f"minari/{name}", task=task, card=card, **arrays)


def _load_from_minari(name: str) -> Any:
    try:
        import minari
        from minari.storage.datasets_root_dir import get_dataset_path
    except ImportError as error:
        raise MissingExtraError("Reading Minari's datasets", "minari") from error
    folder = Path(get_dataset_path(name))
    parent = next(path for path in folder.parents if path.exists())
    with lock(folder) if os.access(parent, os.W_OK) else nullcontext():
        is_local = folder.exists()
        try:
            with unreadable(f"Minari cannot load {name}", REMEDY, FetchError):
                return minari.load_dataset(name, download=not is_offline())
        except BaseException:
            if not is_local:  # Minari would read an incomplete download as a dataset
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _episode_columns(name: str, episode: Any) -> dict[str, Array]:
    observations = np.asarray(episode.observations)
    if observations.ndim != 2 or len(observations) != len(episode.rewards) + 1:
        raise InvalidDataError(
            f"Episode {episode.id} of Minari's {name} has observations of shape "
            f"{observations.shape} for {len(episode.rewards)} rewards.",
            "Fetch it again.",
        )
    timeouts = np.asarray(episode.truncations, dtype=bool).copy()
    timeouts[-1:] |= not episode.terminations[-1]
    return {
        "observations": observations[:-1].astype(np.float32),
        "next_observations": observations[1:].astype(np.float32),
        "actions": np.asarray(episode.actions, dtype=np.float32),
        "rewards": np.asarray(episode.rewards, dtype=np.float32),
        "terminals": np.asarray(episode.terminations, dtype=bool),
        "timeouts": timeouts,
    }
