r"""Outer optimizers: SGD and Adam updates of the synsets, independent for every seed.

``sgd``   SGD with momentum and a bound on the gradient norm, as in the published code.
``adam``  Adam (Kingma and Ba, 2015, arXiv 1412.6980).

Both take a constant learning rate or the cosine schedule

.. math:: \eta_k = \tfrac{1}{2}\,\eta\,\big(1 + \cos(\pi k / K)\big)

for step k of a phase of K steps. The gradient norm is taken over the states and actions of one
seed, so seeds that are distilled together do not influence each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from obdbench.distillation.settings import DistillSettings


def phase_position(settings: DistillSettings, step: int) -> tuple[int, int, float]:
    """Locate outer step ``step`` in the infinite-width phase or in the exact phase after it.

    Return the index of the step in its phase, and the phase's length and peak learning rate. Each
    phase has its own schedule, and the optimizer's moments are cleared between them.
    """
    first = settings.kernel_steps  # of the exact phase
    if step < first:
        return step, first, settings.kernel_lr
    return step - first, settings.steps - first, settings.outer_lr


def learning_rate(settings: DistillSettings, step: int) -> float:
    """Return the learning rate of outer step ``step``, counted from zero."""
    phase_step, phase_steps, peak_lr = phase_position(settings, step)
    if settings.schedule == "constant" or phase_steps <= 1:
        return peak_lr
    return peak_lr * 0.5 * (1.0 + math.cos(math.pi * phase_step / phase_steps))


@dataclass
class OuterOptimizer:
    """The outer optimizer of a stack of synsets and its moments."""

    settings: DistillSettings
    moments: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def update(self, step: int, values: list[Tensor], gradients: list[Tensor]) -> None:
        """Update ``values`` in place."""
        settings = self.settings
        lr = learning_rate(settings, step)
        phase_step, _, _ = phase_position(settings, step)
        if phase_step == 0:
            self.moments.clear()
        if settings.clip is not None:
            norm = torch.stack([g.square().sum(dim=(1, 2)) for g in gradients]).sum(0).sqrt()
            factor = (settings.clip / norm.clamp_min(1e-12)).clamp_max(1.0)[:, None, None]
            gradients = [g * factor for g in gradients]
        for index, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            if settings.outer_optimizer == "sgd":
                m = self._moment(f"m{index}", value).mul_(settings.momentum).add_(gradient)
                value.sub_(m, alpha=lr)
            else:
                m = self._moment(f"m{index}", value).lerp_(gradient, 0.1)
                v = self._moment(f"v{index}", value).lerp_(gradient.square(), 0.001)
                m_hat = m / (1 - 0.9 ** (phase_step + 1))
                v_hat = v / (1 - 0.999 ** (phase_step + 1))
                value.sub_(m_hat / (v_hat.sqrt() + 1e-8), alpha=lr)

    def _moment(self, name: str, like: Tensor) -> Tensor:
        if name not in self.moments:
            self.moments[name] = torch.zeros_like(like)
        return self.moments[name]
