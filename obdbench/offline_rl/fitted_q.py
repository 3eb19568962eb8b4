r"""Fitted Q evaluation (Le, Voloshin and Yue, 2019, arXiv 1903.08738, algorithm 3).

Estimates the action value of a given policy :math:`\pi` from the data. The critic minimizes

.. math:: \mathbb E_D\big[(Q(s, a) - r - \gamma\,(1 - d)\,\bar Q(s', \pi(s')))^2\big]

with a target critic :math:`\bar Q` that follows :math:`Q` by Polyak averaging, in place of the
paper's complete regression per iteration. :math:`\pi(s')` is the mode of the policy, whose value
the objectives use. The policy itself does not change. Estimates are reliable only where the data
covers the actions of the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from obdbench.errors import InvalidSettingError
from obdbench.offline_rl.algorithm import (
    Batch,
    CommonSettings,
    OfflineAlgorithm,
    Rate,
    Shape,
    adam,
    minimize,
)
from obdbench.offline_rl.networks import (
    apply_networks,
    copy_networks,
    init_networks,
)
from obdbench.teachers.teacher import Layers


@dataclass(frozen=True)
class FittedQSettings(CommonSettings):
    """Settings of fitted Q evaluation."""

    learning_rate: Rate = 3e-4


class FittedQ(OfflineAlgorithm):
    """One critic per dataset for a policy that is given."""

    name: ClassVar[str] = "fitted-q"
    paper: ClassVar[str] = "fitted Q evaluation (Le et al., 2019, arXiv 1903.08738)"
    settings_type: ClassVar[type[CommonSettings]] = FittedQSettings
    settings: FittedQSettings
    critics: ClassVar[int] = 1
    evaluates_policy: ClassVar[bool] = True

    def __init__(self, shape: Shape, settings: FittedQSettings, seed: int, steps: int) -> None:
        self.settings = settings
        sizes = [shape.observation_size + shape.action_size, settings.width, settings.width, 1]
        critics = init_networks(shape.generators(seed, 1), sizes)
        self.networks = {"critics": critics, "target_critics": copy_networks(critics)}
        self.optimizers = {"critics": adam([*critics.values()], settings.learning_rate)}

    def update(self, batch: Batch, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the critics."""
        with torch.no_grad():
            next_values = self._values("target_critics", batch.next_states, batch.policy_actions)
            targets = batch.rewards + self.settings.discount * batch.continues * next_values
        values = self._values("critics", batch.states, batch.actions)
        loss = (values - targets).square().mean(dim=-1)
        minimize(self.optimizers["critics"], loss.sum())
        self.update_targets("critics")
        return {"critic_loss": loss.detach(), "value": values.detach().mean(dim=-1)}

    def _values(self, critics: str, states: Tensor, actions: Tensor) -> Tensor:
        inputs = torch.cat([states, actions], dim=-1)
        return apply_networks(self.networks[critics], inputs, self.settings.dtype).squeeze(-1)

    def actor_layers(self, dataset: int) -> Layers:
        """There is no actor: the policy is given."""
        raise InvalidSettingError(
            "fitted-q trains no policy.", "Give the policy whose action value it estimates."
        )
