r"""The base class of objectives.

An objective measures the student's actions on states of the offline data. It is independent of
optimizers, seeds, files and bi-level optimization:

* :meth:`Objective.prepare` is called once with the dataset and its teacher and returns *columns*
  with one row per dataset state;
* :meth:`Objective.loss` takes the student's actions of shape (S, B, n_a) on a batch of states and
  the same rows of the columns, and returns one number per student, shape (S,).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.errors import InvalidSettingError, unknown_name
from obdbench.registry import objectives, parameters_of
from obdbench.teachers.teacher import Teacher

Columns = dict[str, Tensor]
Normalization = Literal["none", "mean-one"]


class Batch:
    """Rows of the columns as attributes: ``batch.states``, ``batch.actions``, ``batch.weight``."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):  # copying looks up special methods before ``columns`` exists
            raise AttributeError(name)
        try:
            return self.columns[name]
        except KeyError:
            raise AttributeError(
                f"the batch has no column {name!r}, only {', '.join(sorted(self.columns))}"
            ) from None


class Objective:
    """Base class. Settings are the keyword arguments of ``__init__``, stored as attributes.

    ``uses_teacher`` says that ``prepare`` needs a teacher, ``uses_critic`` that it needs one with
    action values, and ``distills`` that the objective optimizes the synset. ``is_squared_distance =
    False`` says that the loss is no weighted squared distance of the actions to targets, which some
    solvers need. The distillation loop draws standard normal numbers for each of ``noise_columns``
    per batch.
    """

    name: ClassVar[str] = ""
    uses_teacher: ClassVar[bool] = True
    uses_critic: ClassVar[bool] = False
    distills: ClassVar[bool] = True
    is_squared_distance: ClassVar[bool] = True
    noise_columns: ClassVar[tuple[str, ...]] = ()

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """Columns with one row per state. States and actions of the dataset are always present."""
        return {}

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """One number per student: (S, B, n_a) -> (S,). Smaller is better."""
        raise NotImplementedError(f"{type(self).__name__} does not implement loss")

    def settings(self) -> dict[str, Any]:
        """The keyword arguments of ``__init__``, JSON-serializable."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}


def make_objective(name: str, params: dict[str, Any] | None = None) -> Objective:
    """Create an objective by name and check its settings."""
    objective: Objective = objectives.create_with(name, params or {})
    return objective


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise an error unless the value is one of the choices."""
    if value not in choices:
        raise unknown_name(name, str(value), choices)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise an error unless the value is a number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidSettingError(f"{name} is {value}.", f"Choose a number from {low} to {high}.")


def check_flag(name: str, value: bool) -> None:
    """Raise an error unless the value is a boolean."""
    if not isinstance(value, bool):
        raise InvalidSettingError(f"{name} is {value!r}.", "Choose true or false.")


def squared_error(actions: Tensor, target: Tensor) -> Tensor:
    """Mean over action dimensions of the squared distance: (S, B, n_a) -> (S, B)."""
    return (actions - target).square().mean(-1)


def normalize_weights(weight: Tensor, normalization: Normalization) -> Tensor:
    """The weights, scaled to mean one over the dataset if ``normalization`` is ``mean-one``."""
    if normalization == "none" or not weight.any():
        return weight
    return weight / weight.mean()


def require_teacher(teacher: Teacher | None, user: str) -> Teacher:
    """The teacher; raises an error if there is none. ``user`` says what needs it."""
    if teacher is None:
        raise InvalidSettingError(
            f"{user} needs a teacher, and none is given.",
            "Name a teacher, or choose objectives, selection methods and labels without one.",
        )
    return teacher


def float_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """Convert an array to a float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
