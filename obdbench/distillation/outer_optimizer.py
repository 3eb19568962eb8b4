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

from obdbench.distillation.settings import DistillSettings


def phase(settings: DistillSettings, step: int) -> tuple[int, int, float]:
    """Of outer step ``step``: its number in its phase, the phase's length and highest rate.

    The steps at infinite width are a phase of their own, with moments and a schedule of their own.
    """
    if step < settings.kernel_steps:
        return step, settings.kernel_steps, settings.kernel_lr
    return step - settings.kernel_steps, settings.steps - settings.kernel_steps, settings.outer_lr


def learning_rate(settings: DistillSettings, step: int) -> float:
    """The rate of outer step ``step``, counted from zero."""
    number, length, highest = phase(settings, step)
    if settings.schedule == "constant" or length <= 1:
        return highest
    return highest * 0.5 * (1.0 + math.cos(math.pi * number / length))


@dataclass
class OuterOptimizer:
    """State of the outer optimizer for stacked states and actions."""

    settings: DistillSettings
    moments: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def update(self, step: int, values: list[Tensor], grads: list[Tensor]) -> None:
        """Move ``values`` in place."""
        s = self.settings
        lr = learning_rate(s, step)
        number, _, _ = phase(s, step)
        if number == 0:
            self.moments.clear()
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
                m_hat, v_hat = m / (1 - 0.9 ** (number + 1)), v / (1 - 0.999 ** (number + 1))
                value.sub_(m_hat / (v_hat.sqrt() + 1e-8), alpha=lr)

    def _moment(self, name: str, like: Tensor) -> Tensor:
        if name not in self.moments:
            self.moments[name] = torch.zeros_like(like)
        return self.moments[name]
