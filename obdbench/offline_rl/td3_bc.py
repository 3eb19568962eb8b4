r"""TD3+BC (Fujimoto & Gu, 2021, arXiv 2106.06860).

TD3 with a behavior cloning term in the actor's loss. Critics minimize

.. math:: \sum_i \big(Q_i(s, a) - y\big)^2, \qquad
          y = r + \gamma\,(1 - d)\,\min_j \bar Q_j\big(s', \mathrm{clip}(\bar\pi(s') +
          \mathrm{clip}(\epsilon, -c, c), -1, 1)\big), \quad \epsilon \sim N(0, \sigma^2),

and every second step the actor minimizes

.. math:: -\lambda\,\mathbb E[Q_1(s, \pi(s))] + \mathbb E\big[\tfrac{1}{n_a}
          \lVert \pi(s) - a\rVert^2\big], \qquad
          \lambda = \frac{\alpha}{\mathbb E\,|Q_1(s, \pi(s))|},

with :math:`\lambda` treated as a constant. Defaults are those of the paper, except ``batch_size``,
which is 256 there, a scale of the rewards, and bfloat16 factors where the processor has them.
"""

from __future__ import annotations

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
    Shape,
    adam,
    minimize,
)
from obdbench.offline_rl.networks import (
    apply_networks,
    copy_networks,
    detach_networks,
    init_networks,
    network_layers,
)
from obdbench.policies.networks import Params
from obdbench.teachers.teacher import Layers, with_constant_std


@dataclass(frozen=True)
class TD3BCSettings(CommonSettings):
    """Settings of TD3+BC."""

    learning_rate: Rate = 3e-4
    policy_noise: NotNegative = 0.2
    noise_clip: NotNegative = 0.5
    policy_delay: Annotated[int, Field(ge=1)] = 2
    alpha: NotNegative = 2.5


class TD3BC(OfflineAlgorithm):
    """Deterministic actors and twin critics of D datasets."""

    name: ClassVar[str] = "td3-bc"
    paper: ClassVar[str] = "TD3+BC (Fujimoto & Gu, 2021, arXiv 2106.06860)"
    settings_type: ClassVar[type[CommonSettings]] = TD3BCSettings
    settings: TD3BCSettings

    def __init__(self, shape: Shape, settings: TD3BCSettings, seed: int, steps: int) -> None:
        self.settings = settings
        hidden = [settings.width, settings.width]
        observation, action = shape.observation_size, shape.action_size
        actor = init_networks(shape.generators(seed, 0), [observation, *hidden, action])
        critics = init_networks(shape.generators(seed, 1, 2), [observation + action, *hidden, 1])
        self.networks = {
            "actor": actor,
            "critics": critics,
            "target_actor": copy_networks(actor),
            "target_critics": copy_networks(critics),
        }
        self.optimizers = {
            "actor": adam([*actor.values()], settings.learning_rate),
            "critics": adam([*critics.values()], settings.learning_rate),
        }

    def _policy(self, actor: Params, states: Tensor) -> Tensor:
        return torch.tanh(apply_networks(actor, states, self.settings.dtype))

    def update(self, batch: Batch, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the critics, and every ``policy_delay`` steps one of the actor."""
        losses = self._update_critics(batch, generator)
        if step % self.settings.policy_delay == 0:
            losses |= self._update_actor(batch)
            self.update_targets("critics", "actor")
        return losses

    def _update_critics(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        settings = self.settings
        with torch.no_grad():
            noise = settings.policy_noise * torch.randn(batch.actions.shape, generator=generator)
            noise = noise.clamp(-settings.noise_clip, settings.noise_clip)
            next_actions = self._policy(self.networks["target_actor"], batch.next_states) + noise
            next_actions = next_actions.clamp(-1.0, 1.0)
            next_values = self.estimate("target_critics", batch.next_states, next_actions)
            next_values = next_values.amin(dim=1)
            targets = batch.rewards + settings.discount * batch.continues * next_values
        values = self.estimate("critics", batch.states, batch.actions)
        loss = (values - targets.unsqueeze(1)).square().mean(dim=-1).sum(dim=-1)
        minimize(self.optimizers["critics"], loss.sum())
        return {"critic_loss": loss.detach(), "value": values.detach().mean(dim=(1, 2))}

    def _update_actor(self, batch: Batch) -> dict[str, Tensor]:
        actions = self._policy(self.networks["actor"], batch.states)
        first = {k: v[::2] for k, v in detach_networks(self.networks["critics"]).items()}
        inputs = torch.cat([batch.states, actions], dim=-1)
        values = apply_networks(first, inputs, self.settings.dtype).squeeze(-1)
        scale = self.settings.alpha / values.detach().abs().mean(dim=-1).clamp_min(1e-6)
        cloning = (actions - batch.actions).square().mean(dim=(1, 2))
        loss = cloning - scale * values.mean(dim=-1)
        minimize(self.optimizers["actor"], loss.sum())
        return {"actor_loss": loss.detach(), "cloning_loss": cloning.detach()}

    def actor_layers(self, dataset: int) -> Layers:
        """The deterministic actor."""
        return with_constant_std(network_layers(self.networks["actor"], dataset))
