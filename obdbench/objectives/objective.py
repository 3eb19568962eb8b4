r"""What an objective is.

An objective scores the student's actions on states of the offline data. It knows nothing of
optimizers, seeds, files or bi-level optimization:

* :meth:`Objective.prepare` looks once at the dataset and its teacher and returns *columns*, one row
  per dataset state;
* :meth:`Objective.loss` gets the student's actions of shape (S, B, n_a) on a batch of states and
  the same rows of the columns, and returns one number per student, shape (S,).
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.errors import InvalidSettingError, unknown_name
from obdbench.registry import construct, objectives
from obdbench.teachers.teacher import Teacher

Columns = dict[str, Tensor]
Normalization = Literal["none", "mean-one"]


class Batch:
    """Rows of the columns, by attribute: ``batch.states``, ``batch.actions``, ``batch.weight``."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self._columns[name]
        except KeyError:
            raise AttributeError(
                f"the batch has no column {name!r}, only {', '.join(sorted(self._columns))}"
            ) from None


class Objective:
    """Base class. Settings are the keyword arguments of ``__init__``, kept as attributes."""

    name: ClassVar[str] = ""
    uses_teacher: ClassVar[bool] = True
    distils: ClassVar[bool] = True
    noise_columns: ClassVar[tuple[str, ...]] = ()

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """Per-state columns, computed once. The dataset's states and actions need no column."""
        return {}

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """One number per student: (S, B, n_a) -> (S,). Smaller is better."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def settings(self) -> dict[str, Any]:
        """The settings by name, JSON-serializable: what ``__init__`` takes."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}


def parameters_of(objective: type[Objective]) -> dict[str, Any]:
    """Names and defaults of an objective's settings."""
    signature = inspect.signature(objective.__init__)
    return {
        name: parameter.default
        for name, parameter in list(signature.parameters.items())[1:]
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def make_objective(name: str, params: dict[str, Any] | None = None) -> Objective:
    """An objective by name with its settings checked."""
    found = objectives.get(name)
    if isinstance(found, type) and issubclass(found, Objective):
        known = parameters_of(found)
        for key in params or {}:
            if key not in known:
                raise unknown_name(f"setting of {name}", key, known)
    objective = construct("objective", name, found, params or {}) if callable(found) else found
    if not isinstance(objective, Objective):
        raise InvalidSettingError(
            f"The objective {name!r} is {type(objective).__name__}, not an Objective.",
            "Derive it from obdbench.Objective.",
        )
    if not type(objective).name:
        type(objective).name = name
    return objective


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of its choices."""
    if value not in choices:
        raise unknown_name(name, str(value), choices)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside its bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidSettingError(f"{name} is {value}.", f"It lies between {low} and {high}.")


def check_flag(name: str, value: bool) -> None:
    """Refuse a switch that is neither on nor off."""
    if not isinstance(value, bool):
        raise InvalidSettingError(f"{name} is {value!r}.", "It is true or false.")


def squared_error(actions: Tensor, target: Tensor) -> Tensor:
    """Mean over action dimensions of the squared distance: (S, B, n_a) -> (S, B)."""
    return (actions - target).square().mean(-1)


def normalized(weight: Tensor, how: Normalization) -> Tensor:
    """Weights as they are, or scaled to mean one over the dataset."""
    return weight / weight.mean() if how == "mean-one" else weight


def require(teacher: Teacher | None, name: str) -> Teacher:
    """The teacher, or a clear error where the objective needs one and there is none."""
    if teacher is None:
        raise InvalidSettingError(f"The objective {name!r} needs a teacher.", "Pass one.")
    return teacher


def tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A float32 tensor of an array."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
