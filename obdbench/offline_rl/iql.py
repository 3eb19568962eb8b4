r"""Implicit Q-learning (Kostrikov et al., 2022, arXiv 2110.06169).

No action outside the data is evaluated. The state value is an expectile of the critics,

.. math:: \min_V \mathbb E\big[\lvert \tau - 1[u < 0]\rvert\, u^2\big], \qquad
          u = \min_j \bar Q_j(s, a) - V(s),

the critics regress on :math:`r + \gamma (1 - d) V(s')`, and the actor is cloned with the weights
:math:`\min(e^{\beta u}, 100)`. The policy is a Gaussian around :math:`\tanh\mu(s)` with a standard
deviation that does not depend on the state; its learning rate falls to zero as a cosine. Rewards
are scaled such that the returns of the episodes span 1000, as in the paper for locomotion. Defaults
are those of the paper for the locomotion tasks, except ``batch_size``, which is 256 there. A
teacher's samples have the noise before the tanh, those of the paper's policy after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from obdbench.offline_rl.algorithm import (
    Batch,
    CommonSettings,
    NotNegative,
    OfflineAlgorithm,
    Rate,
    RewardScaling,
    Shape,
    adam,
    minimize,
)
from obdbench.offline_rl.networks import (
    apply_networks,
    copy_networks,
    init_networks,
    network_layers,
)
from obdbench.policies.networks import LOG_STD_MAX
from obdbench.teachers.teacher import Layers, with_constant_std

IQL_LOG_STD_MIN = -5.0


@dataclass(frozen=True)
class IQLSettings(CommonSettings):
    """Settings of IQL."""

    learning_rate: Rate = 3e-4
    expectile: Annotated[float, Field(gt=0, lt=1)] = 0.7
    beta: NotNegative = 3.0
    largest_weight: Annotated[float, Field(gt=0)] = 100.0


class IQL(OfflineAlgorithm):
    """Gaussian actors, state values and twin critics of D datasets."""

    name: ClassVar[str] = "iql"
    paper: ClassVar[str] = "IQL (Kostrikov et al., 2022, arXiv 2110.06169)"
    settings_type: ClassVar[type[CommonSettings]] = IQLSettings
    settings: IQLSettings
    reward_scaling: ClassVar[RewardScaling] = "return range"

    def __init__(self, shape: Shape, settings: IQLSettings, seed: int, steps: int) -> None:
        self.settings, self.steps = settings, steps
        hidden = [settings.width, settings.width]
        observation, action = shape.observation_size, shape.action_size
        actor = init_networks(shape.generators(seed, 0), [observation, *hidden, action])
        critics = init_networks(shape.generators(seed, 1, 2), [observation + action, *hidden, 1])
        value = init_networks(shape.generators(seed, 2), [observation, *hidden, 1])
        log_std = {"log_std": torch.zeros(shape.datasets, action).requires_grad_()}
        self.networks = {
            "actor": actor,
            "log_std": log_std,
            "critics": critics,
            "target_critics": copy_networks(critics),
            "value": value,
        }
        self.optimizers = {
            "actor": adam([*actor.values(), *log_std.values()], settings.learning_rate),
            "critics": adam([*critics.values()], settings.learning_rate),
            "value": adam([*value.values()], settings.learning_rate),
        }

    def update(self, batch: Batch, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the state value, the critics and the actor."""
        settings = self.settings
        with torch.no_grad():
            next_values = self._value(batch.next_states)
            target_values = self.estimate("target_critics", batch.states, batch.actions).amin(dim=1)
        advantages = target_values - self._value(batch.states)
        asymmetry = torch.where(advantages > 0, settings.expectile, 1.0 - settings.expectile)
        value_loss = (asymmetry * advantages.square()).mean(dim=-1)
        minimize(self.optimizers["value"], value_loss.sum())

        targets = batch.rewards + settings.discount * batch.continues * next_values
        values = self.estimate("critics", batch.states, batch.actions)
        critic_loss = (values - targets.unsqueeze(1)).square().mean(dim=(1, 2))
        minimize(self.optimizers["critics"], critic_loss.sum())
        self.update_targets("critics")
        actor_loss = self._update_actor(batch, advantages.detach(), step)
        return {
            "critic_loss": critic_loss.detach(),
            "value_loss": value_loss.detach(),
            "actor_loss": actor_loss,
            "value": values.detach().mean(dim=(1, 2)),
        }

    def _value(self, states: Tensor) -> Tensor:
        return apply_networks(self.networks["value"], states, self.settings.dtype).squeeze(-1)

    def _update_actor(self, batch: Batch, advantages: Tensor, step: int) -> Tensor:
        settings = self.settings
        weights = (settings.beta * advantages).exp().clamp_max(settings.largest_weight)
        means = torch.tanh(apply_networks(self.networks["actor"], batch.states, settings.dtype))
        log_std = self.networks["log_std"]["log_std"].clamp(IQL_LOG_STD_MIN, LOG_STD_MAX)
        log_std = log_std.unsqueeze(1)
        errors = (batch.actions - means) * (-log_std).exp()
        negative_log_density = (0.5 * errors.square() + log_std).sum(dim=-1)
        loss = (weights * negative_log_density).mean(dim=-1)
        for group in self.optimizers["actor"].param_groups:
            group["lr"] = settings.learning_rate * cosine_decay(step / self.steps)
        minimize(self.optimizers["actor"], loss.sum())
        return loss.detach()

    def actor_layers(self, dataset: int) -> Layers:
        """Means, and the standard deviation that all states share."""
        log_std = self.networks["log_std"]["log_std"][dataset]
        log_std = log_std.clamp(IQL_LOG_STD_MIN, LOG_STD_MAX)
        return with_constant_std(network_layers(self.networks["actor"], dataset), log_std)


def cosine_decay(progress: float) -> float:
    """Learning-rate factor, from 1 to 0."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))
