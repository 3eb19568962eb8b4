"""What is known of the genuine D4RL files: moments, sizes, addresses."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from obdbench.datasets.dataset import Standardizer
from obdbench.errors import unknown_name


@cache
def references() -> dict[str, Any]:
    """The content of ``references.json``."""
    text = files("obdbench.datasets").joinpath("references.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def moments_of(name: str) -> Standardizer:
    """Moments of the observations of a genuine D4RL dataset, such as ``hopper-medium-v2``."""
    known = references()["datasets"]
    if name not in known:
        raise unknown_name("D4RL dataset with known moments", name, known)
    facts = known[name]
    return Standardizer(
        np.asarray(facts["state_mean"], dtype=np.float32),
        np.asarray(facts["state_std"], dtype=np.float32),
    )


def size_of(name: str) -> int | None:
    """Transitions of a genuine dataset after ``qlearning_dataset``, where that is known."""
    size = references()["datasets"].get(name, {}).get("size")
    return None if size is None else int(size)
