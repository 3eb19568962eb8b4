r"""PBC, policy-based behavioural cloning distance.

.. math:: H(\pi) = \mathbb{E}_{s \sim D}\; \lVert \pi(s) - \pi^*(s) \rVert^2

Lei, Zhang and Tao, 2024, arXiv 2410.22728: the data's sub-optimal actions are replaced by those of
a near-expert teacher π* trained on the same data by offline RL. The public code samples the
teacher's action afresh in every batch (``sample_teacher``); the default takes its mode, which is
the same target without the variance.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    require,
    squared_error,
    tensor,
)
from obdbench.teachers.teacher import Teacher


class PBC(Objective):
    """Squared distance to the teacher's actions."""

    name: ClassVar[str] = "pbc"

    def __init__(self, *, sample_teacher: bool = False) -> None:
        check_flag("sample_teacher", sample_teacher)
        self.sample_teacher = sample_teacher

    @property
    def noise_columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """The engine draws this column afresh for every batch."""
        return ("teacher_noise",) if self.sample_teacher else ()

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """The teacher's action on every state, or its Gaussian where it is to be sampled."""
        return self.target(require(teacher, self.name).columns(dataset.observations))

    def target(self, known: Mapping[str, Array]) -> Columns:
        """What the distance is taken to, out of what the teacher says of every state."""
        if self.sample_teacher:
            return {name: tensor(known[name]) for name in ("teacher_mean", "teacher_std")}
        return {"teacher_actions": tensor(known["teacher_actions"])}

    def distance(self, actions: Tensor, batch: Batch) -> Tensor:
        """Squared distance to the teacher, per state."""
        if self.sample_teacher:
            sampled = batch.teacher_mean + batch.teacher_std * batch.teacher_noise
            return squared_error(actions, torch.tanh(sampled))
        return squared_error(actions, batch.teacher_actions)

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """Mean over the batch."""
        return self.distance(actions, batch).mean(-1)
