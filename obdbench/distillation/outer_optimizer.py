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
from typing import NamedTuple

import torch
from torch import Tensor

from obdbench.distillation.settings import DistillSettings


class PhasePosition(NamedTuple):
    """The index of an outer step within its phase, and the phase's length and peak rate."""

    step: int
    steps: int
    peak_lr: float


def phase_position(settings: DistillSettings, step: int) -> PhasePosition:
    """Locate outer step ``step`` in the infinite-width phase or in the exact phase after it.

    Each phase has its own schedule, and the optimizer's moments are cleared between them.
    """
    infinite_width_steps = settings.kernel_steps
    if step < infinite_width_steps:
        return PhasePosition(step, infinite_width_steps, settings.kernel_lr)
    exact_steps = settings.steps - infinite_width_steps
    return PhasePosition(step - infinite_width_steps, exact_steps, settings.outer_lr)


def learning_rate(settings: DistillSettings, step: int) -> float:
    """Return the learning rate of outer step ``step``, counted from zero."""
    position = phase_position(settings, step)
    if settings.schedule == "constant" or position.steps <= 1:
        return position.peak_lr
    return position.peak_lr * 0.5 * (1.0 + math.cos(math.pi * position.step / position.steps))


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
        phase_step = phase_position(settings, step).step
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
                m_hat, v_hat = (
                    m / (1 - 0.9 ** (phase_step + 1)),
                    v / (1 - 0.999 ** (phase_step + 1)),
                )
                value.sub_(m_hat / (v_hat.sqrt() + 1e-8), alpha=lr)

    def _moment(self, name: str, like: Tensor) -> Tensor:
        if name not in self.moments:
            self.moments[name] = torch.zeros_like(like)
        return self.moments[name]
