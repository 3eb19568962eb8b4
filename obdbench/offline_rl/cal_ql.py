r"""Calibrated conservative Q-learning (Nakamoto et al., 2023, arXiv 2303.05479).

Soft actor-critic whose critics minimize

.. math::

    \tfrac12\,\mathbb E\big[(Q_i(s, a) - r - \gamma (1 - d) \min_j \bar Q_j(s', a'))^2\big]
    + \alpha\,\mathbb E\Big[\log\!\sum_{\tilde a} e^{\tilde Q_i(s, \tilde a) - \log p(\tilde a)}
    - Q_i(s, a)\Big],

where the proposals :math:`\tilde a` are drawn uniformly, from :math:`\pi(\cdot|s)` and from
:math:`\pi(\cdot|s')` with density :math:`p`. Values of the policy's proposals are not pushed below
the return of the behavior: :math:`\tilde Q_i = \max(Q_i, V^\mu(s))` with the data's discounted
return from the transition on as :math:`V^\mu`. The actor maximizes
:math:`\mathbb E_\pi[\min_i Q_i - \eta \log\pi]`; the temperature :math:`\eta` follows an entropy
target of :math:`-n_a`.

Rewards are not scaled: the temporal difference grows with the square of their scale and the penalty
in proportion to it, so that :math:`\alpha` counts less on data with large returns.

``penalty_rows`` limits the penalty, the most expensive part, to the first rows of a batch; by
default it covers all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

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
    apply_twin_critics,
    copy_networks,
    detach_networks,
    init_networks,
    network_layers,
)
from obdbench.policies.networks import LOG_STD_MAX, LOG_STD_MIN, LOG_STD_OFFSET
from obdbench.teachers.teacher import Layers


@dataclass(frozen=True)
class CalQLSettings(CommonSettings):
    """Settings of Cal-QL."""

    actor_learning_rate: Rate = 1e-4
    critic_learning_rate: Rate = 3e-4
    conservatism: NotNegative = 5.0
    proposals: Annotated[int, Field(ge=1, le=10_000)] = 10
    penalty_rows: Annotated[int, Field(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.penalty_rows is not None and self.penalty_rows > self.batch_size:
            raise ValueError("penalty_rows is larger than batch_size")


class CalQL(OfflineAlgorithm):
    """Squashed Gaussian actors, twin critics and temperatures of D datasets."""

    name: ClassVar[str] = "cal-ql"
    paper: ClassVar[str] = "Cal-QL (Nakamoto et al., 2023, arXiv 2303.05479)"
    settings_type: ClassVar[type[CommonSettings]] = CalQLSettings
    reward_scaling: ClassVar[RewardScaling] = "none"
    settings: CalQLSettings
    log_std_offset: ClassVar[float] = LOG_STD_OFFSET

    def __init__(self, shape: Shape, settings: CalQLSettings, seed: int, steps: int) -> None:
        self.settings, self.shape = settings, shape
        hidden = [settings.width, settings.width]
        observation, action = shape.observation_size, shape.action_size
        actor = init_networks(shape.generators(seed, 0), [observation, *hidden, 2 * action])
        critics = init_networks(shape.generators(seed, 1, 2), [observation + action, *hidden, 1])
        temperature = {"log": torch.zeros(shape.datasets).requires_grad_()}
        self.networks = {
            "actor": actor,
            "critics": critics,
            "target_critics": copy_networks(critics),
            "temperature": temperature,
        }
        self.optimizers = {
            "actor": adam([*actor.values()], settings.actor_learning_rate),
            "critics": adam([*critics.values()], settings.critic_learning_rate),
            "temperature": adam([*temperature.values()], settings.actor_learning_rate),
        }

    def _policy(self, states: Tensor) -> tuple[Tensor, Tensor]:
        outputs = apply_networks(self.networks["actor"], states, self.settings.dtype)
        mean, log_std = outputs.chunk(2, dim=-1)
        return mean, (log_std + LOG_STD_OFFSET).clamp(LOG_STD_MIN, LOG_STD_MAX)

    def update(self, batch: Batch, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the temperature, the actor and the critics."""
        distribution = self._policy(batch.states)
        noise = torch.randn(batch.actions.shape, generator=generator)
        actions, log_density = sample_actions(*distribution, noise)
        losses = self._update_actor(batch, actions, log_density)
        detached = (distribution[0].detach(), distribution[1].detach())
        losses |= self._update_critics(batch, detached, generator)
        self.update_targets("critics")
        return losses

    def _update_actor(
        self, batch: Batch, actions: Tensor, log_density: Tensor
    ) -> dict[str, Tensor]:
        log_temperature = self.networks["temperature"]["log"]
        entropy_gap = (log_density.detach() - self.shape.action_size).mean(dim=-1)
        minimize(self.optimizers["temperature"], (-log_temperature * entropy_gap).sum())
        temperature = log_temperature.detach().exp()
        frozen = detach_networks(self.networks["critics"])
        values = apply_twin_critics(frozen, batch.states, actions, self.settings.dtype).amin(dim=1)
        loss = (temperature.unsqueeze(1) * log_density - values).mean(dim=-1)
        minimize(self.optimizers["actor"], loss.sum())
        return {
            "actor_loss": loss.detach(),
            "value": values.detach().mean(dim=-1),
            "temperature": temperature,
        }

    def _update_critics(
        self, batch: Batch, distribution: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        settings = self.settings
        with torch.no_grad():
            next_distribution = self._policy(batch.next_states)
            noise = torch.randn(batch.actions.shape, generator=generator)
            next_actions, _ = sample_actions(*next_distribution, noise)
            next_values = self.estimate("target_critics", batch.next_states, next_actions)
            next_values = next_values.amin(dim=1)
            targets = batch.rewards + settings.discount * batch.continues * next_values
        values = self.estimate("critics", batch.states, batch.actions)
        td_loss = 0.5 * (values - targets.unsqueeze(1)).square().mean(dim=-1).sum(dim=-1)
        penalty = self._penalty(batch, distribution, next_distribution, values, generator)
        minimize(self.optimizers["critics"], (td_loss + settings.conservatism * penalty).sum())
        return {"critic_loss": td_loss.detach(), "penalty": penalty.detach()}

    def _penalty(
        self,
        batch: Batch,
        distribution: tuple[Tensor, Tensor],
        next_distribution: tuple[Tensor, Tensor],
        values: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Log-sum-exp of the proposals' values minus the values of the data's actions."""
        rows = self.settings.penalty_rows or batch.states.shape[1]
        count, size = self.settings.proposals, batch.actions.shape[-1]
        shape = (batch.states.shape[0], count, rows, size)
        with torch.no_grad():
            uniform = 2.0 * torch.rand(shape, generator=generator) - 1.0
            current, next_ = (
                sample_actions(
                    mean[:, None, :rows],
                    log_std[:, None, :rows],
                    torch.randn(shape, generator=generator),
                )
                for mean, log_std in (distribution, next_distribution)
            )
            log_volume = size * math.log(2.0)  # the uniform density is 2^-size
            log_densities = torch.cat(
                [torch.full(shape[:-1], -log_volume), current[1], next_[1]], dim=1
            ).unsqueeze(1)
            proposals = torch.cat([uniform, current[0], next_[0]], dim=1)
        states = batch.states[:, None, :rows].expand(-1, 3 * count, -1, -1)
        estimates = self.estimate("critics", states.flatten(1, 2), proposals.flatten(1, 2))
        estimates = torch.unflatten(estimates, -1, (3 * count, rows))
        floor = batch.returns[:, None, None, :rows]
        calibrated = torch.cat(
            [estimates[:, :, :count], torch.maximum(estimates[:, :, count:], floor)], dim=2
        )
        log_sum = torch.logsumexp(calibrated - log_densities, dim=2)
        return (log_sum - values[..., :rows]).mean(dim=-1).sum(dim=-1)

    def actor_layers(self, dataset: int) -> Layers:
        """Means and raw log standard deviations."""
        return network_layers(self.networks["actor"], dataset)


def sample_actions(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""Actions :math:`a = \tanh(u)`, :math:`u \sim N(\mu, \sigma^2)`, and their log densities.

    .. math:: \log p(a) = \sum_j \log N(u_j; \mu_j, \sigma_j^2) - \log(1 - \tanh^2 u_j),

    with the second term computed as :math:`2(\log 2 - u - \mathrm{softplus}(-2u))`, which does not
    overflow (Haarnoja et al., 2018, arXiv 1812.05905, appendix C). ``noise`` is standard normal.
    """
    unsquashed = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    correction = 2.0 * (math.log(2.0) - unsquashed - softplus(-2.0 * unsquashed))
    return torch.tanh(unsquashed), (gaussian - correction).sum(dim=-1)
