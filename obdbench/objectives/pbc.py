r"""PBC, policy-based behavioral cloning distance.

.. math:: H(\pi) = \mathbb{E}_{s \sim D}\; \lVert \pi(s) - \pi^*(s) \rVert^2

Lei, Zhang and Tao, 2024, arXiv 2410.22728: the actions of a near-expert teacher π*, trained on the
same data by offline RL, replace the suboptimal actions of the data. The public code samples a new
teacher action in every batch (``sample_teacher``); the default uses the mode, which is the same
target without the sampling variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Array, Dataset
from obdbench.objectives.objective import (
    Batch,
    Columns,
    Objective,
    check_flag,
    float_tensor,
    require_teacher,
    squared_error,
)
from obdbench.teachers.teacher import Teacher


@dataclass(kw_only=True, eq=False)
class PBC(Objective):
    """Squared distance to the teacher's actions."""

    name: ClassVar[str] = "pbc"
    sample_teacher: bool = False

    def __post_init__(self) -> None:
        check_flag("sample_teacher", self.sample_teacher)

    @property
    def noise_columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """The noise column, if teacher actions are sampled."""
        return ("teacher_noise",) if self.sample_teacher else ()

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """The teacher's action on every state, or its Gaussian if actions are sampled."""
        teacher = require_teacher(teacher, f"The objective {self.name!r}")
        return self.target_columns(teacher.columns(dataset.observations))

    def target_columns(self, teacher_columns: Mapping[str, Array]) -> Columns:
        """The columns that :meth:`distance` uses, out of those of ``Teacher.columns``."""
        if self.sample_teacher:
            return {
                name: float_tensor(teacher_columns[name])
                for name in ("teacher_mean", "teacher_std")
            }
        return {"teacher_actions": float_tensor(teacher_columns["teacher_actions"])}

    def distance(self, actions: Tensor, batch: Batch) -> Tensor:
        """Squared distance to the teacher's action per state."""
        if self.sample_teacher:
            sampled = batch.teacher_mean + batch.teacher_std * batch.teacher_noise
            return squared_error(actions, torch.tanh(sampled))
        return squared_error(actions, batch.teacher_actions)

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """Mean over the batch."""
        return self.distance(actions, batch).mean(-1)
