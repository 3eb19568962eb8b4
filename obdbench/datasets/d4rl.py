"""Genuine D4RL files of the gym-mujoco v2 family (Fu et al., 2020, arXiv 2004.07219).

A file is read from the cache folder of the ``d4rl`` package if it is there, and downloaded
otherwise. A download must have the published SHA-256; on every load the sizes, moments and returns
are compared with the published ones, where they are known.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np

from obdbench.datasets.arrays import flatten_columns, read_arrays, require_columns
from obdbench.datasets.dataset import ACTION_TOLERANCE, Array, Dataset
from obdbench.datasets.download import cache_path, fetch, find_local
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.references import find_reference, references
from obdbench.datasets.transitions import qlearning_columns
from obdbench.errors import FetchError, unknown_name
from obdbench.tasks.task import TASKS, get_task, normalized_return

LEVELS = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
NAMES = tuple(f"{task}-{level}-v2" for task in TASKS for level in LEVELS)
COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts")
MEAN_TOLERANCE = 1e-3  # standard deviations
STD_TOLERANCE = 1e-3  # relative
RETURN_TOLERANCE = 2.0  # normalized; a kept episode lacks its last reward if it was cut off


class GenuineDataWarning(UserWarning):
    """A file under a genuine name differs from what is published about it."""


def load(dataset_id: str, *, progress: bool = True) -> Dataset:
    """``d4rl/<name>-v2`` as ``qlearning_dataset`` returns it; the card lists every mismatch."""
    name = DatasetId(dataset_id).name
    path = fetch_file(name, progress=progress)
    task = get_task(name)
    columns = read_arrays(path, COLUMNS, task)
    require_columns(path, columns, COLUMNS[:4])
    arrays = qlearning_columns(flatten_columns(path, columns), task.episode_limit)
    del columns
    clipped = clip(arrays["actions"])
    card = {"source": address(name), "file": path.name, "environment": f"{task.env_id[:-2]}v2"}
    dataset = Dataset(id=f"d4rl/{name}", task=task, card=card, **arrays)
    problems = mismatches(dataset, name)
    if clipped:
        problems.append(f"{clipped:,} numbers in actions lie beyond -1 and 1 and were clipped")
    for problem in problems:
        warnings.warn(f"{dataset.id}: {problem}", GenuineDataWarning, stacklevel=2)
    card["mismatches"] = "; ".join(problems) or "none"
    return dataset


def clip(actions: Array) -> int:
    """Clip finite actions in place, as the simulator does; returns how many lie far beyond."""
    beyond = np.isfinite(actions) & (np.abs(actions) > 1 + ACTION_TOLERANCE)
    actions[beyond] = np.sign(actions[beyond])
    return int(np.count_nonzero(beyond))


def file_name(name: str) -> str:
    """``hopper-medium-replay-v2`` is stored as ``hopper_medium_replay-v2.hdf5``."""
    if name not in NAMES:
        raise unknown_name("D4RL dataset", name, NAMES)
    return re.sub(r"-(?!v2$)", "_", name) + ".hdf5"


def address(name: str) -> str:
    """Where D4RL publishes a dataset."""
    return str(references()["address"]) + file_name(name)


def addresses(name: str) -> tuple[str, ...]:
    """D4RL's own address, and that of a public mirror."""
    return (address(name), str(references()["mirror"]) + file_name(name))


def find_in_d4rl_cache(name: str) -> Path | None:
    """The file in the cache folder of the ``d4rl`` package, if it is there."""
    file = file_name(name)
    chosen = os.environ.get("D4RL_DATASET_DIR")
    root = Path(chosen).expanduser() if chosen else Path.home() / ".d4rl"
    return next((path for path in (root / "datasets" / file, root / file) if path.is_file()), None)


def is_local(name: str) -> bool:
    """Whether the file is on this machine."""
    downloads = (cache_path(url) for url in addresses(name))
    return find_in_d4rl_cache(name) is not None or any(path.is_file() for path in downloads)


def fetch_file(name: str, *, progress: bool = True) -> Path:
    """The file in the ``d4rl`` package's cache, or the downloaded and verified one.

    An address is asked only where no copy of any address is in the cache or the mirror.
    """
    local = find_in_d4rl_cache(name)
    if local is not None:
        return local
    facts = references()["files"][name]
    for url in addresses(name):
        copy = find_local(url, sha256=facts["sha256"], max_bytes=facts["bytes"])
        if copy is not None:
            return copy
    errors: list[FetchError] = []
    for url in addresses(name):
        try:
            return fetch(url, sha256=facts["sha256"], max_bytes=facts["bytes"], progress=progress)
        except FetchError as error:
            errors.append(error)
    raise FetchError(" ".join(error.cause for error in errors), errors[0].remedy) from errors[0]


def mismatches(dataset: Dataset, name: str) -> list[str]:
    """How a dataset differs from what is published about the genuine one."""
    reference = find_reference(name)
    if reference is None:
        return []
    problems: list[str] = []
    if reference.size is not None and len(dataset) != reference.size:
        problems.append(f"{len(dataset):,} transitions; the genuine file gives {reference.size:,}")
    published, moments = reference.moments, dataset.standardizer
    error = np.abs(moments.mean - published.mean) / published.std
    ratio = np.abs(moments.std / published.std - 1)
    if error.max() > MEAN_TOLERANCE:
        problems.append(
            f"a mean is off by {error.max():.2g} standard deviations (coordinate {error.argmax()})"
        )
    if ratio.max() > STD_TOLERANCE:
        problems.append(
            f"a standard deviation is off by {100 * ratio.max():.2g}% (coordinate {ratio.argmax()})"
        )
    returns = dataset.episode_returns()
    mean = float(returns.mean()) if len(returns) else float("nan")
    difference = normalized_return(dataset.task, mean) - normalized_return(
        dataset.task, reference.return_mean
    )
    if not abs(difference) <= RETURN_TOLERANCE:
        problems.append(
            f"the mean episode return is {mean:.0f}; published is {reference.return_mean:.0f}"
        )
    return problems
