"""Selection by the teacher's action value: transitions drawn from the most valuable tenth."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.objectives.objective import check_range, require_teacher
from obdbench.selection.selection_method import SelectionMethod
from obdbench.teachers.teacher import Teacher


class TopValue(SelectionMethod):
    """Uniform draws from the share of the data with the highest action values."""

    name: ClassVar[str] = "top-q"
    uses_teacher: ClassVar[bool] = True
    uses_critic: ClassVar[bool] = True

    def __init__(self, *, share: float = 0.1) -> None:
        check_range("share", share, 0, 1)
        self.share = share
        self._values: tuple[Dataset, Teacher, Array] | None = None

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows whose recorded actions have a high value."""
        values = self._values_of(
            dataset, require_teacher(teacher, f"The selection method {self.name!r}")
        )
        size = max(pairs, int(len(dataset) * self.share))
        best = np.sort(np.argpartition(-values, size - 1)[:size])
        return np.asarray(rng.choice(best, pairs, replace=False))

    def _values_of(self, dataset: Dataset, teacher: Teacher) -> Array:
        """Action values of a dataset, computed once for all seeds."""
        known = self._values
        if known is None or known[0] is not dataset or known[1] is not teacher:
            actions = np.asarray(dataset.actions, np.float32)
            known = self._values = dataset, teacher, teacher.value(dataset.observations, actions)
        return known[2]
