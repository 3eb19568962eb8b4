r"""Outer optimizers: they move the synsets, each seed's on its own.

``sgd``   momentum SGD with the gradient's norm clipped, as published.
``adam``  Adam (arXiv 1412.6980) with a constant or cosine schedule.

The clip is on the joint norm of a seed's states and actions, so that seeds in one batch do not feel
each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from obdbench.distill.settings import DistillSettings


def learning_rate(settings: DistillSettings, step: int) -> float:
    """The rate of outer step ``step``, counted from zero."""
    if settings.schedule == "constant" or settings.steps <= 1:
        return settings.outer_lr
    return settings.outer_lr * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))


@dataclass
class Outer:
    """State of the outer optimizer for stacked states and actions."""

    settings: DistillSettings
    moments: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def update(self, step: int, values: list[Tensor], grads: list[Tensor]) -> None:
        """Move ``values`` in place."""
        s = self.settings
        lr = learning_rate(s, step)
        if s.clip is not None:
            norm = torch.stack([g.square().sum(dim=(1, 2)) for g in grads]).sum(0).sqrt()
            factor = (s.clip / norm.clamp_min(1e-12)).clamp_max(1.0)[:, None, None]
            grads = [g * factor for g in grads]
        for index, (value, grad) in enumerate(zip(values, grads, strict=True)):
            if s.outer_optimizer == "sgd":
                m = self._moment(f"m{index}", value).mul_(s.momentum).add_(grad)
                value.sub_(m, alpha=lr)
            else:
                m = self._moment(f"m{index}", value).lerp_(grad, 0.1)
                v = self._moment(f"v{index}", value).lerp_(grad.square(), 0.001)
                m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                value.sub_(m_hat / (v_hat.sqrt() + 1e-8), alpha=lr)

    def _moment(self, name: str, like: Tensor) -> Tensor:
        if name not in self.moments:
            self.moments[name] = torch.zeros_like(like)
        return self.moments[name]
