r"""Av-PBC, action-value weighted PBC.

.. math:: H(\pi) = \mathbb{E}_{s \sim D}\; w(s)\, \lVert \pi(s) - \pi^*(s) \rVert^2, \qquad
          w(s) = \beta\, q_{\pi^*}(s, \pi^*(s)), \quad \beta = 0.02

Lei, Zhang and Tao, 2024, arXiv 2410.22728: the bound on the difference in return between π and π*
is tighter when states are weighted by the teacher's action value. A value below zero would reward
being far from the teacher; it is clamped at zero.

As published the weight does not average one (0.02 q averages about 5 to 13 on the D4RL
locomotion data), so that Av-PBC runs at several times PBC's outer learning rate.
``weight_normalization="mean-one"`` takes that difference away.
"""

from __future__ import annotations

import logging
from typing import ClassVar

import numpy as np
from torch import Tensor

from obdbench.datasets.dataset import Array, Dataset
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import (
    Batch,
    Columns,
    Normalization,
    check_choice,
    check_range,
    normalized,
    require,
    tensor,
)
from obdbench.objectives.pbc import PBC
from obdbench.teachers.teacher import Teacher

logger = logging.getLogger(__name__)
MOST = 0.5  # of the states may be without weight and nothing is said


class AvPBC(PBC):
    """PBC weighted by the teacher's action value."""

    name: ClassVar[str] = "av-pbc"

    def __init__(
        self,
        *,
        beta: float = 0.02,
        weight_normalization: Normalization = "none",
        sample_teacher: bool = False,
    ) -> None:
        super().__init__(sample_teacher=sample_teacher)
        check_range("beta", beta, 1e-9, 1e9)
        check_choice("weight normalization", weight_normalization, ("none", "mean-one"))
        self.beta = beta
        self.weight_normalization: Normalization = weight_normalization

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """PBC's target and the weight."""
        teacher = require(teacher, self.name)
        known = teacher.columns(dataset.observations)
        self._check(known["teacher_q"], teacher, dataset)
        columns = self.target(known)
        weight = self.beta * tensor(known["teacher_q"]).clamp_min(0.0)
        columns["weight"] = normalized(weight, self.weight_normalization)
        return columns

    def _check(self, q: Array, teacher: Teacher, dataset: Dataset) -> None:
        """Insist that some state has a weight, and say so where most have none."""
        clamped = float((q <= 0).mean())
        if clamped == 1:
            raise InvalidDataError(
                f"The teacher {teacher.id!r} values no state of {dataset.id} above zero, so that "
                f"every weight of {self.name} is zero.",
                "Use pbc, or another teacher.",
            )
        if clamped > MOST:
            logger.warning(
                "The teacher %r values %.0f%% of the states of %s below zero: %s gives them no "
                "weight.",
                teacher.id,
                100 * clamped,
                dataset.id,
                self.name,
            )

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """Weighted mean over the batch."""
        return (batch.weight * self.distance(actions, batch)).mean(-1)
