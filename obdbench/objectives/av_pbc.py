r"""Av-PBC, action-value weighted PBC.

.. math:: H(\pi) = \mathbb{E}_{s \sim D}\; w(s)\, \lVert \pi(s) - \pi^*(s) \rVert^2, \qquad
          w(s) = \beta\, q_{\pi^*}(s, \pi^*(s)), \quad \beta = 0.02

Lei, Zhang and Tao, 2024, arXiv 2410.22728: the bound on the difference in return between π and π*
is tighter when states are weighted by the teacher's action value. A negative value would reward
distance from the teacher; it is clamped to zero.

The published weight does not have mean one (0.02 q has mean 5 to 13 on the D4RL locomotion data),
so that Av-PBC effectively runs at several times PBC's outer learning rate.
``weight_normalization="mean-one"`` removes that difference.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from obdbench.datasets.dataset import Array, Dataset, DerivedDataset
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import (
    Batch,
    Columns,
    Normalization,
    check_choice,
    check_range,
    float_tensor,
    normalize_weights,
    require_teacher,
)
from obdbench.objectives.pbc import PBC
from obdbench.teachers.teacher import Teacher

logger = logging.getLogger(__name__)
MAX_ZERO_WEIGHT_SHARE = 0.5  # a larger share of states with zero weight is a warning


@dataclass(kw_only=True, eq=False)
class AvPBC(PBC):
    """PBC weighted by the teacher's action value."""

    name: ClassVar[str] = "av-pbc"
    uses_critic: ClassVar[bool] = True
    beta: float = 0.02
    weight_normalization: Normalization = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("beta", self.beta, 1e-9, 1e9)
        check_choice("weight normalization", self.weight_normalization, ("none", "mean-one"))

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """PBC's columns and the weight."""
        teacher = require_teacher(teacher, f"The objective {self.name!r}")
        teacher.require_critics(dataset.id)
        teacher_columns = teacher.columns(dataset.observations)
        q = teacher_columns["teacher_q"]
        self._check_values(q, teacher, dataset)
        columns = self.target_columns(teacher_columns)
        weight = self.beta * float_tensor(q).clamp_min(0.0)
        columns["weight"] = normalize_weights(weight, self.weight_normalization)
        return columns

    def _check_values(self, q: Array, teacher: Teacher, dataset: Dataset) -> None:
        """Raise an error if every weight is zero, and warn if most are."""
        zero_share = float((q <= 0).mean())
        if zero_share == 1 and not isinstance(dataset, DerivedDataset):
            raise InvalidDataError(
                f"The teacher {teacher.id!r} has no positive action value on {dataset.id}, so "
                f"every weight of {self.name} is zero.",
                "Use pbc, or a teacher of positive rewards: `obdbench teach --set reward_bias=B` "
                "adds B to every reward.",
            )
        if zero_share > MAX_ZERO_WEIGHT_SHARE and not isinstance(dataset, DerivedDataset):
            logger.warning(
                "The teacher %r has action values below zero on %.0f%% of the states of %s; %s "
                "gives them zero weight.",
                teacher.id,
                100 * zero_share,
                dataset.id,
                self.name,
            )

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """Weighted mean over the batch."""
        return (batch.weight * self.distance(actions, batch)).mean(-1)
