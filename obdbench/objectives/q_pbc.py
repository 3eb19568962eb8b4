r"""Q-PBC: PBC together with the action value that the student loses.

.. math:: H(\pi) = \mathbb{E}_{s \sim D}\Big[ \lVert \pi(s) - \pi^*(s) \rVert^2
          + \lambda\, \frac{\rho}{\kappa}\, \big( q(s, \pi^*(s)) - q(s, \pi(s)) \big)_+ \Big]

By the performance difference lemma (Kakade and Langford, 2002), the return that a student loses
against its teacher is the expectation of q(s, π*(s)) - q(s, π(s)) over the states that the student
visits. Av-PBC bounds it by the distance of the actions, weighted by q and equal in all directions
of the action; here the teacher's critic values each deviation. The positive part gives no reward
for actions that the critic values more than the teacher's.

.. math:: \kappa = \frac{\mathbb{E}\,\big( q(s, \pi^*(s)) - q(s, a') \big)_+}
                        {\mathbb{E}\,\lVert a' - \pi^*(s) \rVert^2}, \qquad
          \rho = \frac{\mathbb{E}_{(s, a) \sim D} \lVert a - \pi^*(s) \rVert^2}
                      {\mathrm{Var}_s\, \pi^*(s)} \text{, at most } 1.

κ makes both terms equally large for a' = π*(s) plus white noise of 0.3, clipped to the bounds. The
critic has been trained on the actions of the data, and ρ says how far these spread about the
teacher's: where they hardly do, the critic's values of other actions are extrapolations, and the
distance to the teacher prevails. Source: this project.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Array, Dataset, RelatedDataset
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import (
    Batch,
    Columns,
    check_range,
    float_tensor,
    require_teacher,
)
from obdbench.objectives.pbc import PBC
from obdbench.teachers.teacher import Layers, Teacher, apply_layers

NOISE = 0.3  # of the actions at which the critic's sensitivity is measured
SAMPLED_STATES = 20_000


@dataclass(kw_only=True, eq=False)
class QPBC(PBC):
    """PBC and the loss of action value under the teacher's critic."""

    name: ClassVar[str] = "q-pbc"
    uses_critic: ClassVar[bool] = True
    is_squared_distance: ClassVar[bool] = False
    value_weight: float = 2.0
    sample_teacher: bool = field(default=False, init=False)  # not a setting of this objective

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("value_weight", self.value_weight, 0.0, 1e6)

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """PBC's columns and the teacher's action value."""
        teacher = require_teacher(teacher, f"The objective {self.name!r}")
        teacher.require_critics(dataset.id)
        original = dataset
        while isinstance(original, RelatedDataset):
            original = original.reference
        self._critic, scale = scaled_critic(teacher, original)
        self._weight = self.value_weight * scale
        teacher_columns = teacher.columns(dataset.observations)
        columns = self.target_columns(teacher_columns)
        columns["teacher_q"] = float_tensor(teacher_columns["teacher_q"])
        return columns

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """Mean over the batch of the distance and the weighted loss of value."""
        lost = (batch.teacher_q - self._critic(batch.states, actions)).clamp_min(0.0)
        return (self.distance(actions, batch) + self._weight * lost).mean(-1)


@lru_cache(maxsize=1)  # seeds and evaluation points share the dataset and the teacher
def scaled_critic(teacher: Teacher, dataset: Dataset) -> tuple[Critic, float]:
    """The critic at the dataset's states, and the weight ρ / κ of the value that is lost."""
    scale = action_spread(teacher, dataset) / critic_sensitivity(teacher, dataset)
    return Critic(teacher, dataset), scale


def critic_sensitivity(teacher: Teacher, dataset: Dataset) -> float:
    """The ratio κ of lost value and squared distance, for the teacher's actions with noise."""
    rows = _sample_rows(dataset)
    observations = dataset.observations[rows]
    best = teacher.act(observations)
    noise = NOISE * np.random.default_rng(0).standard_normal(best.shape, dtype=np.float32)
    actions = np.clip(best + noise, -1, 1)
    lost = np.maximum(
        teacher.value(observations, best) - teacher.value(observations, actions), 0
    ).mean(dtype=np.float64)
    if not lost > 0:
        raise InvalidDataError(
            f"The critic of the teacher {teacher.id!r} does not depend on the action.",
            "Use pbc, or fit another critic with `obdbench teach --algorithm fitted-q`.",
        )
    return float(lost / np.square(actions - best).mean(dtype=np.float64))


def action_spread(teacher: Teacher, dataset: Dataset) -> float:
    """The squared distance ρ of data and teacher, over the variance of the teacher's actions.

    At most one, which is the value for actions that do not depend on the state.
    """
    rows = _sample_rows(dataset)
    targets = teacher.act(dataset.observations[rows])
    distance = np.square(dataset.actions[rows] - targets).mean(dtype=np.float64)
    variance = targets.var(axis=0, dtype=np.float64).mean()
    return float(min(distance / variance, 1.0)) if variance else 1.0


def _sample_rows(dataset: Dataset) -> Array:
    """The rows at which the critic and the actions are measured, evenly spread over the data."""
    return np.linspace(0, len(dataset) - 1, min(len(dataset), SAMPLED_STATES)).astype(int)


class Critic:
    """A teacher's action value at a dataset's standardized states, differentiable in actions."""

    def __init__(self, teacher: Teacher, dataset: Dataset) -> None:
        self.networks: tuple[Layers, ...] = teacher.critics
        own, critic = dataset.standardizer, teacher.standardizer
        self.scale = float_tensor(own.scale / critic.scale)
        self.shift = float_tensor((own.mean - critic.mean) / critic.scale)

    def __call__(self, states: Tensor, actions: Tensor) -> Tensor:
        """The minimum over the networks: (S, B, n_s), (S, B, n_a) -> (S, B)."""
        if self.scale.device != actions.device or self.scale.dtype != actions.dtype:
            self._convert_to(actions)
        own_states = (states * self.scale + self.shift).expand(*actions.shape[:-1], -1)
        inputs = torch.cat([own_states, actions], -1)
        values = [apply_layers(network, inputs).squeeze(-1) for network in self.networks]
        return torch.stack(values).amin(dim=0)

    def _convert_to(self, like: Tensor) -> None:
        """Move networks and scales to the device and type of a tensor."""
        self.networks = tuple(
            tuple((weight.to(like), bias.to(like)) for weight, bias in network)
            for network in self.networks
        )
        self.scale, self.shift = self.scale.to(like), self.shift.to(like)
