"""The base class of state sources, which decide on which states the objective is evaluated.

The states of :meth:`StateSource.fixed_dataset` are the same for all seeds and outer steps. A source
can also add states per seed during the distillation (:meth:`StateSource.new_states`), which depend
on the current synset. Added states have no recorded actions, so the teacher labels them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import require_teacher
from obdbench.registry import state_sources
from obdbench.teachers.teacher import Teacher


class StateSource:
    """Base class. A source is created once per distillation.

    ``adds_states`` says that :meth:`new_states` is defined, which needs a teacher and an objective
    that uses it, and ``uses_next_observations`` that the source reads the data's next observations.
    ``added_share`` is the share of every batch that added states make up once there
    are any, and ``kept_rounds`` the number of rounds of added states that are kept.
    """

    name: ClassVar[str] = ""
    adds_states: ClassVar[bool] = False
    uses_next_observations: ClassVar[bool] = False
    added_share: float = 0.5
    kept_rounds: int = 1

    def __init__(self, dataset: Dataset, settings: DistillSettings) -> None:
        self.dataset, self.settings = dataset, settings

    def fixed_dataset(self) -> Dataset:
        """Return the dataset whose states the objective sees at all steps.

        It has one row per transition of the data, and the standardizer of the data.
        """
        return self.dataset

    def is_due(self, step: int) -> bool:
        """Whether outer step ``step`` adds a round of states."""
        return False

    def new_states(self, states: Tensor, actions: Tensor, seed: int, step: int) -> Tensor:
        """Return a round of standardized states, (N, observation), for the synset of one seed.

        Everything random depends on ``seed`` and ``step`` only.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement new_states")

    def card(self) -> dict[str, Any]:
        """Return entries that describe the source on the card of a synset."""
        return {}


class DataStates(StateSource):
    """The states of the dataset without noise, whatever ``smoothing`` is, as published."""

    name: ClassVar[str] = "data"


def adds_states(settings: DistillSettings) -> bool:
    """Whether the state source that the settings name adds states during the distillation."""
    return bool(getattr(state_sources.get(settings.state_source), "adds_states", False))


def uses_next_observations(settings: DistillSettings) -> bool:
    """Whether the state source that the settings name reads the data's next observations."""
    source = state_sources.get(settings.state_source)
    return bool(getattr(source, "uses_next_observations", False))


def make_state_source(
    dataset: Dataset, teacher: Teacher | None, settings: DistillSettings
) -> StateSource:
    """Create the state source that the settings name."""
    name = settings.state_source
    if adds_states(settings):
        require_teacher(teacher, f"The state source {name!r}")
    source: StateSource = state_sources.create(name, {"dataset": dataset, "settings": settings})
    return source


def load_fixed_dataset(source: StateSource) -> Dataset:
    """Return the fixed dataset of a source, after a check of its size and standardizer."""
    data, fixed = source.dataset, source.fixed_dataset()
    if len(fixed) != len(data):
        raise InvalidDataError(
            f"The state source {source.name!r} returned {len(fixed)} states for the {len(data)} "
            f"transitions of {data.id}.",
            "Return one state per transition from fixed_dataset().",
        )
    if fixed.standardizer is not data.standardizer and not np.array_equal(
        [fixed.standardizer.mean, fixed.standardizer.std],
        [data.standardizer.mean, data.standardizer.std],
    ):
        raise InvalidDataError(
            f"The state source {source.name!r} returned states in units other than those of "
            f"{data.id}.",
            "Return a DerivedDataset whose reference is the data from fixed_dataset().",
        )
    return fixed
