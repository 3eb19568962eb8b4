"""Genuine D4RL files of the gym-mujoco v2 family (Fu et al., 2020, arXiv 2004.07219).

A file is taken from the cache folder of the ``d4rl`` package where that has it, else downloaded.
What is known of the genuine data, sizes and moments, is compared on every load.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np

from obdbench.datasets.arrays import one_a_row, read_arrays, required
from obdbench.datasets.dataset import ACTION_TOLERANCE, Array, Dataset
from obdbench.datasets.download import cached, fetch
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.references import moments_of, references, size_of
from obdbench.datasets.transitions import qlearning_columns
from obdbench.errors import FetchError, unknown_name
from obdbench.tasks.task import TASKS, get_task

LEVELS = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
NAMES = tuple(f"{task}-{level}-v2" for task in TASKS for level in LEVELS)
COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts")
MAX_BYTES = 1024 * 1024 * 1024
MEAN_TOLERANCE = 1e-3
SPREAD_TOLERANCE = 1e-3


class GenuineDataWarning(UserWarning):
    """A file under a genuine name does not have the known sizes or moments."""


def load(dataset_id: str, *, progress: bool = True) -> Dataset:
    """``d4rl/<name>-v2`` as ``qlearning_dataset`` gives it; mismatches are warned of and carded."""
    name = DatasetId(dataset_id).name
    path = locate(name, progress=progress)
    task = get_task(name)
    columns = read_arrays(path, COLUMNS, task)
    required(path, columns, COLUMNS[:4])
    arrays = qlearning_columns(one_a_row(path, columns), task.episode_limit)
    del columns
    beyond = clip(arrays["actions"])
    card = {"source": address(name), "file": path.name, "environment": f"{task.env_id[:-2]}v2"}
    dataset = Dataset(id=f"d4rl/{name}", task=task, card=card, **arrays)
    problems = mismatches(dataset, name)
    if beyond:
        problems.append(f"{beyond:,} numbers in actions lay beyond -1 and 1 and were clipped")
    for problem in problems:
        warnings.warn(f"{dataset.id}: {problem}", GenuineDataWarning, stacklevel=2)
    card["mismatches"] = "; ".join(problems) or "none"
    return dataset


def clip(actions: Array) -> int:
    """Clip finite actions in place, as the simulator does; returns how many were far beyond."""
    beyond = np.isfinite(actions) & (np.abs(actions) > 1 + ACTION_TOLERANCE)
    actions[beyond] = np.sign(actions[beyond])
    return int(np.count_nonzero(beyond))


def address(name: str) -> str:
    """Where D4RL publishes a dataset."""
    return str(references()["address"]) + file_name(name)


def file_name(name: str) -> str:
    """``hopper-medium-replay-v2`` is stored as ``hopper_medium_replay-v2.hdf5``."""
    if name not in NAMES:
        raise unknown_name("D4RL dataset", name, NAMES)
    return re.sub(r"-(?!v2$)", "_", name) + ".hdf5"


def kept(name: str) -> Path | None:
    """The file in the ``d4rl`` package's cache or in this one's."""
    file = file_name(name)
    chosen = os.environ.get("D4RL_DATASET_DIR")
    root = Path(chosen).expanduser() if chosen else Path.home() / ".d4rl"
    places = (root / "datasets" / file, root / file, cached(address(name)))
    return next((path for path in places if path.is_file()), None)


def locate(name: str, *, progress: bool = True) -> Path:
    """The file in the ``d4rl`` package's cache, else the one fetched and checked."""
    found = kept(name)
    if found is not None and found != cached(address(name)):
        return found
    try:
        return fetch(address(name), max_bytes=MAX_BYTES, trust_first=True, progress=progress)
    except FetchError as error:
        stand_in = f" recon/{name} is a stand-in." if name in references()["datasets"] else ""
        raise FetchError(error.cause, error.remedy + stand_in) from error


def mismatches(dataset: Dataset, name: str) -> list[str]:
    """How a dataset differs from what is known of the genuine one; empty where all agrees."""
    if name not in references()["datasets"]:
        return []
    found: list[str] = []
    size = size_of(name)
    if size is not None and len(dataset) != size:
        found.append(f"{len(dataset):,} transitions; the genuine file gives {size:,}")
    wanted, own = moments_of(name), dataset.standardizer
    error = np.abs(own.mean - wanted.mean) / wanted.std
    ratio = np.abs(own.std / wanted.std - 1)
    if error.max() > MEAN_TOLERANCE:
        found.append(f"a mean is off by {error.max():.2g} spreads (coordinate {error.argmax()})")
    if ratio.max() > SPREAD_TOLERANCE:
        found.append(f"a spread is off by {100 * ratio.max():.2g}% (coordinate {ratio.argmax()})")
    return found
