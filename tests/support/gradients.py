"""Small problems for tests of meta-gradients, and the reference gradient by plain autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.outer_gradient import OuterLoss
from obdbench.policies.cloning import CloningConfig, clone_loss
from obdbench.policies.networks import Architecture, Params, seeded_generator
from obdbench.policies.optimizers import get_optimizer

ARCHITECTURES = [
    *(Architecture(f"mlp{depth}", depth, width=12) for depth in (2, 3, 4, 5, 6)),
    Architecture("residual", 4, residual=True, width=12),
]
MLP3, MLP4, RESIDUAL = ARCHITECTURES[1], ARCHITECTURES[2], ARCHITECTURES[-1]
STEPS, PAIRS, STACK = 8, 6, 2
DOUBLE = torch.float64


def random_synsets(stack: int = STACK, pairs: int = PAIRS) -> tuple[Tensor, Tensor]:
    """Return stacked states and actions with hopper's sizes."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(stack, pairs, 11, generator=generator, dtype=DOUBLE)
    a = torch.rand(stack, pairs, 3, generator=generator, dtype=DOUBLE) * 1.8 - 0.9
    return x, a


def make_cloning(architecture: Architecture, optimizer: str, steps: int = STEPS) -> CloningConfig:
    """Return an inner loop with a learning rate at which the student changes visibly."""
    inner_optimizer = get_optimizer(optimizer)
    lr = 0.2 if optimizer == "sgd" else inner_optimizer.default_lr
    return CloningConfig(architecture, inner_optimizer, lr, steps)


def initial_params(cloning: CloningConfig, stack: int = STACK) -> Params:
    """Return the same untrained students at every call."""
    return cloning.architecture.init(
        [seeded_generator(s, 1) for s in range(stack)], 11, 3, dtype=DOUBLE
    )


def random_noise(stack: int = STACK, steps: int = STEPS, seed: int = 3) -> Tensor:
    """Return noise for the actions of every inner step."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, stack, PAIRS, 3, generator=generator, dtype=DOUBLE)


def squared_error(cloning: CloningConfig) -> OuterLoss:
    """Return the mean squared error of the students' actions on random states."""
    generator = torch.Generator().manual_seed(11)
    states = torch.randn(20, 11, generator=generator, dtype=DOUBLE)
    target = torch.rand(20, 3, generator=generator, dtype=DOUBLE)
    return lambda p: (cloning.architecture.act(p, states) - target).square().mean((-1, -2))


def autograd_meta_gradient(
    cloning: CloningConfig,
    params: Params,
    x: Tensor,
    a: Tensor,
    outer_loss: OuterLoss,
    noise: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses and gradients in states and actions by autograd through the whole loop."""
    x, a = x.clone().requires_grad_(), a.clone().requires_grad_()
    params = {name: value.clone().requires_grad_() for name, value in params.items()}
    state = cloning.optimizer.init(params)
    for step in range(cloning.steps):
        step_noise = None if noise is None else noise[step]
        loss = clone_loss(cloning.architecture, params, x, a, step_noise)
        grads = torch.autograd.grad(
            loss, list(params.values()), create_graph=True, materialize_grads=True
        )
        params, state = cloning.optimizer.update(
            params, dict(zip(params, grads, strict=True)), state, cloning.lr
        )
    losses = outer_loss(params)
    gx, ga = torch.autograd.grad(losses.sum(), [x, a])
    return losses.detach(), gx, ga


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over the norm of the expected tensor."""
    return float((actual - expected).norm() / expected.norm())
