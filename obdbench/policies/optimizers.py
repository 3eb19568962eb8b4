r"""Inner optimizers as pure functions: ``init(params)`` and ``update(params, grads, state, lr)``.

Every update consists of differentiable operations on whole stacks of policies. The same function
therefore clones policies and is differentiated through during distillation.

========  =====================================================================================
sgd       :math:`\theta \leftarrow \theta - \eta g`
sgdm      :math:`m \leftarrow 0.9\,m + g,\ \theta \leftarrow \theta - \eta m`
adam      Kingma and Ba, 2015, arXiv 1412.6980, with :math:`\beta = (0.9, 0.999)`
adamw     Loshchilov and Hutter, 2019, arXiv 1711.05101, weight decay 0.01
========  =====================================================================================

Adam divides by :math:`\sqrt{\hat v + \epsilon^2}` instead of :math:`\sqrt{\hat v} + \epsilon`. The
two differ by less than :math:`\epsilon`, and the first has a finite derivative where the gradient
is zero, as it is for dead units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from obdbench.errors import unknown_name
from obdbench.policies.networks import Params

MOMENTUM = 0.9
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class OptimizerState:
    """Optimizer state: the step count and named moments, each shaped like the parameters."""

    count: int = 0
    moments: dict[str, Params] = field(default_factory=dict)


def _zeros(params: Params) -> Params:
    return {name: torch.zeros_like(value) for name, value in params.items()}


@dataclass(frozen=True)
class Optimizer:
    """A named pair of pure functions and a default learning rate."""

    name: str
    moments: tuple[str, ...]
    step: Callable[
        [Tensor, Tensor, dict[str, Tensor], int, float], tuple[Tensor, dict[str, Tensor]]
    ]
    default_lr: float

    def init(self, params: Params) -> OptimizerState:
        """The initial state."""
        return OptimizerState(0, {name: _zeros(params) for name in self.moments})

    def update(
        self, params: Params, grads: Params, state: OptimizerState, lr: float
    ) -> tuple[Params, OptimizerState]:
        """One step for every policy in the stack."""
        count = state.count + 1
        new_params: Params = {}
        new_moments: dict[str, Params] = {name: {} for name in self.moments}
        for key, value in params.items():
            old = {name: state.moments[name][key] for name in self.moments}
            new_params[key], new = self.step(value, grads[key], old, count, lr)
            for name in self.moments:
                new_moments[name][key] = new[name]
        return new_params, OptimizerState(count, new_moments)


def _sgd(
    p: Tensor, g: Tensor, _: dict[str, Tensor], __: int, lr: float
) -> tuple[Tensor, dict[str, Tensor]]:
    return p - lr * g, {}


def _sgdm(
    p: Tensor, g: Tensor, old: dict[str, Tensor], _: int, lr: float
) -> tuple[Tensor, dict[str, Tensor]]:
    m = MOMENTUM * old["m"] + g
    return p - lr * m, {"m": m}


def _adam(
    p: Tensor, g: Tensor, old: dict[str, Tensor], count: int, lr: float
) -> tuple[Tensor, dict[str, Tensor]]:
    m = BETA1 * old["m"] + (1 - BETA1) * g
    v = BETA2 * old["v"] + (1 - BETA2) * g * g
    m_hat = m / (1 - BETA1**count)
    v_hat = v / (1 - BETA2**count)
    return p - lr * m_hat / torch.sqrt(v_hat + EPSILON**2), {"m": m, "v": v}


def _adamw(
    p: Tensor, g: Tensor, old: dict[str, Tensor], count: int, lr: float
) -> tuple[Tensor, dict[str, Tensor]]:
    return _adam(p * (1 - lr * WEIGHT_DECAY), g, old, count, lr)


OPTIMIZERS: dict[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", (), _sgd, 0.1),
        Optimizer("sgdm", ("m",), _sgdm, 0.01),
        Optimizer("adam", ("m", "v"), _adam, 1e-3),
        Optimizer("adamw", ("m", "v"), _adamw, 1e-3),
    )
}


def get_optimizer(name: str) -> Optimizer:
    """Get an inner optimizer by name."""
    if name not in OPTIMIZERS:
        raise unknown_name("inner optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
