"""Selection by the teacher's action value: transitions drawn from the most valuable tenth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.objectives.objective import check_range, require_teacher
from obdbench.selection.selection_method import SelectionMethod
from obdbench.teachers.teacher import Teacher


@dataclass(kw_only=True, eq=False)
class TopValue(SelectionMethod):
    """Uniform draws from the share of the data with the highest action values."""

    name: ClassVar[str] = "top-q"
    uses_teacher: ClassVar[bool] = True
    uses_critic: ClassVar[bool] = True
    share: float = 0.1

    def __post_init__(self) -> None:
        check_range("share", self.share, 0, 1)

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows whose recorded actions have a high value."""
        teacher = require_teacher(teacher, f"The selection method {self.name!r}")
        values = action_values(dataset, teacher)
        size = max(pairs, int(len(dataset) * self.share))
        best = np.sort(np.argpartition(-values, size - 1)[:size])
        return np.asarray(rng.choice(best, pairs, replace=False))


@lru_cache(maxsize=1)  # seeds share the dataset and the teacher
def action_values(dataset: Dataset, teacher: Teacher) -> Array:
    """The teacher's values of the recorded actions."""
    return teacher.value(dataset.observations, np.asarray(dataset.actions, np.float32))
