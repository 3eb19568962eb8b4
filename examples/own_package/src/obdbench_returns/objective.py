r"""DBC weighted by the return-to-go.

.. math:: H(\pi) = \mathbb{E}_{(s, a) \sim D}\; w(s, a)\, \lVert \pi(s) - a \rVert^2, \qquad
          w \propto \exp(z / T)

with z the standardized discounted return-to-go of the transition: reward-weighted regression
(Peters and Schaal, 2007) as a distillation objective. It needs no teacher and works on any dataset.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from obdbench import Dataset, Objective, Teacher
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import Batch

MAX_Z = 5.0  # standard deviations; bounds the influence of single transitions


class ReturnDBC(Objective):
    """DBC weighted by the return-to-go in the data."""

    name: ClassVar[str] = "return-dbc"
    uses_teacher: ClassVar[bool] = False

    def __init__(self, *, temperature: float = 1.0, discount: float = 0.99) -> None:
        if temperature <= 0 or not 0 <= discount <= 1:
            raise InvalidSettingError(
                f"temperature is {temperature} and discount {discount}.",
                "Choose a positive temperature and a discount from 0 to 1.",
            )
        self.temperature = temperature
        self.discount = discount

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """The weight of every transition, with mean one."""
        to_go = returns_to_go(dataset, self.discount)
        z = (to_go - to_go.mean()) / max(float(to_go.std()), 1e-8)
        weight = np.exp(np.clip(z, -MAX_Z, MAX_Z) / self.temperature)
        return {"weight": torch.from_numpy((weight / weight.mean()).astype(np.float32))}

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """Weighted mean over the batch, one number per student."""
        return (batch.weight * (actions - batch.actions).square().mean(-1)).mean(-1)


def returns_to_go(dataset: Dataset, discount: float) -> np.ndarray:
    """Discounted sum of the rewards from each transition to the end of its episode."""
    ends = np.asarray(dataset.terminals, bool).copy()
    if dataset.timeouts is not None:
        ends |= np.asarray(dataset.timeouts, bool)
    to_go = np.array(dataset.rewards, np.float64)
    for row in range(len(to_go) - 2, -1, -1):
        if not ends[row]:
            to_go[row] += discount * to_go[row + 1]
    return to_go
