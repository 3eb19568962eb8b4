"""The base class of selection methods, which choose transitions of the data.

Tables show the pairs of a selection method as a separate row, with the data's or the teacher's
actions as labels; a distillation can start from them. A method defines
:meth:`SelectionMethod.select`; its settings are the keyword arguments of ``__init__``, kept as
attributes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.errors import InvalidDataError, InvalidSettingError
from obdbench.registry import selections
from obdbench.teachers.teacher import Teacher


class SelectionMethod:
    """Base class of selection methods.

    ``uses_teacher`` says that ``select`` needs a teacher, ``uses_critic`` that it needs one with
    action values.
    """

    name: ClassVar[str] = ""
    uses_teacher: ClassVar[bool] = False
    uses_critic: ClassVar[bool] = False

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Indices of ``pairs`` distinct transitions.

        ``dataset.actions`` are the recorded actions, also if the teacher labels the pairs.
        Everything random is drawn from ``rng``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement select")


class UniformSelection(SelectionMethod):
    """Transitions drawn uniformly without replacement: the reference of every table."""

    name: ClassVar[str] = "random"

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows drawn uniformly."""
        return np.asarray(rng.choice(len(dataset), pairs, replace=False))


def make_selection(name: str, params: dict[str, Any] | None = None) -> SelectionMethod:
    """A selection method by name, with its settings checked."""
    method: SelectionMethod = selections.create_with(name, params or {})
    return method


def select_rows(
    method: SelectionMethod,
    dataset: Dataset,
    teacher: Teacher | None,
    pairs: int,
    rng: np.random.Generator,
) -> Array:
    """Call a selection method and check what it returns."""
    if pairs > len(dataset):
        raise InvalidSettingError(
            f"{pairs} pairs are more than the {len(dataset)} transitions of {dataset.id}.",
            "Use fewer pairs.",
        )
    rows = np.asarray(method.select(dataset, teacher, pairs, rng))
    valid = (
        rows.shape == (pairs,)
        and rows.dtype.kind in "iu"
        and len(np.unique(rows)) == pairs
        and int(rows.min()) >= 0
        and int(rows.max()) < len(dataset)
    )
    if not valid:
        raise InvalidDataError(
            f"The selection method {method.name!r} did not return {pairs} distinct rows of "
            f"{dataset.id}.",
            "Return a vector of distinct row indices.",
        )
    return rows
