"""Published facts about the genuine D4RL files: checksums, sizes, returns, moments, addresses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from obdbench.datasets.dataset import Standardizer
from obdbench.errors import unknown_name


@dataclass(frozen=True)
class Reference:
    """What is published about the content of one genuine file.

    ``rows`` and the returns are of whole episodes, without an unfinished last one. ``size`` and
    the moments of states are of the rows that ``qlearning_dataset`` keeps.
    """

    rows: int
    return_mean: float
    return_std: float | None
    size: int | None
    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]

    @property
    def moments(self) -> Standardizer:
        """Mean and standard deviation of the observations."""
        return Standardizer(
            np.asarray(self.state_mean, np.float32), np.asarray(self.state_std, np.float32)
        )


@cache
def references() -> dict[str, Any]:
    """The content of ``references.json``."""
    text = files("obdbench.datasets").joinpath("references.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def find_reference(name: str) -> Reference | None:
    """The facts about a genuine dataset, such as ``hopper-medium-v2``; None if unpublished."""
    facts = references()["datasets"].get(name)
    return None if facts is None else Reference(**facts)


def get_reference(name: str) -> Reference:
    """The facts about a genuine dataset, which must be published."""
    reference = find_reference(name)
    if reference is None:
        raise unknown_name("D4RL dataset with published facts", name, references()["datasets"])
    return reference
