"""From a dataset identifier to the dataset."""

from __future__ import annotations

from typing import Any

from obdbench.datasets import d4rl, file, minari
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.identifier import DatasetId, resolve_registered_name
from obdbench.errors import InvalidDataError
from obdbench.registry import datasets


def load_dataset(dataset_id: str) -> Dataset:
    """Load a dataset by identifier, such as ``embedded/hopper-medium-replay-v1``.

    ``file:PATH.hdf5`` and ``file:PATH.npz`` read the user's files, ``minari/<id>`` a dataset of
    Minari and ``d4rl/<name>-v2`` one of D4RL, for hopper, walker2d and halfcheetah.
    """
    source = DatasetId(dataset_id).source
    if source == "file":
        loaded: Any = file.load(dataset_id)
    elif dataset_id not in datasets and source == "minari":
        loaded = minari.load(dataset_id)
    elif dataset_id not in datasets and source == "d4rl":
        loaded = d4rl.load(dataset_id)
    else:
        name = resolve_registered_name(dataset_id)
        loaded = datasets.get(name)(name)
    if not isinstance(loaded, Dataset):
        raise InvalidDataError(
            f"The loader of {dataset_id!r} returned {type(loaded).__name__}, not a Dataset.",
            "A dataset loader takes the identifier and returns obdbench.Dataset.",
        )
    return loaded
