"""Uniform selection: the reference of every table."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.selection.selection_method import SelectionMethod
from obdbench.teachers.teacher import Teacher


class UniformSelection(SelectionMethod):
    """Transitions drawn uniformly without replacement."""

    name: ClassVar[str] = "random"

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows drawn uniformly."""
        return np.asarray(rng.choice(len(dataset), pairs, replace=False))
