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

from typing import ClassVar

import numpy as np
from torch import Tensor

from obdbench.data.dataset import Dataset
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
        known = require(teacher, self.name).columns(dataset.observations)
        columns = self.target(known)
        weight = self.beta * tensor(known["teacher_q"]).clamp_min(0.0)
        columns["weight"] = normalized(weight, self.weight_normalization)
        return columns

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """Weighted mean over the batch."""
        return (batch.weight * self.distance(actions, batch)).mean(-1)
