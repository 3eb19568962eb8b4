r"""Behavioral cloning of a stack of policies, each on its own pairs.

.. math:: \ell(\theta; x, a) = \frac{1}{N n_a} \sum_{i,j} (\pi_\theta(x_i)_j - a_{ij})^2

The loss is averaged over the pairs and action dimensions of one policy and summed over the stack,
so that each policy's gradient is the gradient of its own loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from obdbench.policies.networks import Architecture, Params
from obdbench.policies.optimizers import Optimizer, OptimizerState


@dataclass(frozen=True)
class CloningConfig:
    """The architecture of a student and how it is trained."""

    architecture: Architecture
    optimizer: Optimizer
    lr: float
    steps: int


def clone_loss(
    architecture: Architecture,
    params: Params,
    states: Tensor,
    actions: Tensor,
    noise: Tensor | None = None,
) -> Tensor:
    """The loss, summed over the stack."""
    error = architecture.act(params, states, noise) - actions
    return error.square().mean(dim=(-2, -1)).sum()


def clone_step(
    config: CloningConfig,
    params: Params,
    state: OptimizerState,
    states: Tensor,
    actions: Tensor,
    noise: Tensor | None = None,
) -> tuple[Params, OptimizerState]:
    """One differentiable inner step."""
    grads = torch.func.grad(lambda p: clone_loss(config.architecture, p, states, actions, noise))(
        params
    )
    return config.optimizer.update(params, grads, state, config.lr)


def clone(
    config: CloningConfig,
    params: Params,
    states: Tensor,
    actions: Tensor,
    noise_at: Callable[[int], Tensor | None] = lambda _: None,
) -> Params:
    """Train for all inner steps without storing intermediate parameters."""
    state = config.optimizer.init(params)
    names = list(params)
    for step in range(config.steps):
        leaves = {name: params[name].detach().requires_grad_() for name in names}
        loss = clone_loss(config.architecture, leaves, states, actions, noise_at(step))
        grads = torch.autograd.grad(loss, [leaves[name] for name in names])
        with torch.no_grad():
            params, state = config.optimizer.update(
                leaves, dict(zip(names, grads, strict=True)), state, config.lr
            )
    return {name: value.detach() for name, value in params.items()}
