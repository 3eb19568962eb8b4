r"""Calibrated PBC: PBC whose students keep the spread of the teacher's actions.

.. math:: H(\pi) = \mathbb{E}_s \lVert \pi(s) - \pi^*(s) \rVert^2
          + \lambda\, \frac{1}{n_a} \sum_j (1 - b_j)^2\, \mathrm{Var}_s\, \pi^*_j(s), \qquad
          b_j = \frac{\mathrm{Cov}_s(\pi_j, \pi^*_j)}{\mathrm{Var}_s\, \pi^*_j}

The slope b is that of a regression of the student's actions on the teacher's. A squared distance
is smallest for students whose actions are shrunk towards their mean: with actions b π* plus an
error of variance v b² Var π*, its minimum is at b = 1 / (1 + v). The penalty moves it to
(1 + λ) / (1 + λ + v). Moments are those of the batch. Source: this project.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from obdbench.objectives.objective import Batch, check_range
from obdbench.objectives.pbc import PBC

MIN_VARIANCE = 1e-12  # of a constant action, whose penalty is zero


class CalibratedPBC(PBC):
    """PBC with a penalty on the slope of the student's actions on the teacher's."""

    name: ClassVar[str] = "calibrated-pbc"

    def __init__(self, *, slope_weight: float = 10.0) -> None:
        super().__init__()
        check_range("slope_weight", slope_weight, 0.0, 1e6)
        self.slope_weight = slope_weight

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """The distance of PBC and the weighted penalty."""
        centered = batch.teacher_actions - batch.teacher_actions.mean(-2, keepdim=True)
        variance = centered.square().mean(-2)
        slope = (actions * centered).mean(-2) / variance.clamp_min(MIN_VARIANCE)
        penalty = ((1 - slope).square() * variance).mean(-1)
        return super().loss(actions, batch) + self.slope_weight * penalty
