"""Selected pairs as rows of tables: every selection method is also an undistilled objective.

``obdbench.selection.undistilled:NAME`` is the objective class of the selection method NAME. Its
settings are those of the method and ``labels``: whether pairs carry the data's actions or the
teacher's. Such a row is the control that says what distillation adds.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, ClassVar

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.objectives.objective import Objective, check_choice, require_teacher
from obdbench.registry import parameters_of, selections
from obdbench.selection.selection_method import (
    SelectionMethod,
    make_selection,
    select_rows,
)
from obdbench.teachers.teacher import Teacher


class SelectedPairs(Objective):
    """Pairs of a selection method, not distilled."""

    distills: ClassVar[bool] = False
    uses_teacher: bool  # type: ignore[misc]
    method: SelectionMethod
    labels: str


def select_pairs(
    method: SelectionMethod,
    labels: str,
    dataset: Dataset,
    teacher: Teacher | None,
    pairs: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Standardized states and labels that a selection method chooses."""
    check_choice("source of labels", labels, ("data", "teacher"))
    rows = select_rows(method, dataset, teacher, pairs, rng)
    if labels == "teacher":
        actions = require_teacher(teacher, "Labeling by a teacher").act(dataset.observations[rows])
    else:
        actions = dataset.actions[rows]
    return dataset.states[rows].copy(), np.array(actions, dtype=np.float32)


def undistilled_objective(selection: str) -> type[SelectedPairs]:
    """The objective class of a selection method."""
    return _objective_class(selection, selections.get(selection))


@cache
def _objective_class(selection: str, target: Any) -> type[SelectedPairs]:
    own = parameters_of(target)

    def init(self: SelectedPairs, *, labels: str = "data", **params: Any) -> None:
        check_choice("source of labels", labels, ("data", "teacher"))
        self.method = make_selection(selection, params)
        self.labels = labels
        self.uses_teacher = self.method.uses_teacher or labels == "teacher"
        for name in own:
            setattr(self, name, getattr(self.method, name))

    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in {"labels": "data", **own}.items()
    ]
    init.__signature__ = inspect.Signature([receiver, *parameters])  # type: ignore[attr-defined]
    summary = next(iter((inspect.getdoc(target) or "").splitlines()), f"{selection}.")
    documentation = f"{summary} Not distilled."
    return type(
        f"Selected_{selection}",
        (SelectedPairs,),
        {
            "__init__": init,
            "__doc__": documentation,
            "name": selection,
            "uses_teacher": getattr(target, "uses_teacher", False),
            "uses_critic": getattr(target, "uses_critic", False),
        },
    )


def __getattr__(name: str) -> Any:
    if name in selections:
        return undistilled_objective(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
