"""Small problems for tests of meta-gradients, and plain autograd as the reference."""

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
STEPS, PAIRS, STACK = 8, 6, 2
DOUBLE = torch.float64


def problem(stack: int = STACK, pairs: int = PAIRS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(stack, pairs, 11, generator=generator, dtype=DOUBLE)
    a = torch.rand(stack, pairs, 3, generator=generator, dtype=DOUBLE) * 1.8 - 0.9
    return x, a


def cloning(architecture: Architecture, optimizer: str, steps: int = STEPS) -> CloningConfig:
    chosen = get_optimizer(optimizer)
    return CloningConfig(
        architecture, chosen, 0.2 if optimizer == "sgd" else chosen.default_lr, steps
    )


def start(how: CloningConfig, stack: int = STACK) -> Params:
    return how.architecture.init(
        [seeded_generator(s, 1) for s in range(stack)], 11, 3, dtype=DOUBLE
    )


def noise_of(stack: int = STACK, steps: int = STEPS, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, stack, PAIRS, 3, generator=generator, dtype=DOUBLE)


def simple_outer(how: CloningConfig) -> OuterLoss:
    generator = torch.Generator().manual_seed(11)
    states = torch.randn(20, 11, generator=generator, dtype=DOUBLE)
    target = torch.rand(20, 3, generator=generator, dtype=DOUBLE)
    return lambda p: (how.architecture.act(p, states) - target).square().mean((-1, -2))


def unrolled(
    how: CloningConfig, params: Params, x: Tensor, a: Tensor, outer: OuterLoss, noise: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Plain autograd through the whole loop: the oracle."""
    x, a = x.clone().requires_grad_(), a.clone().requires_grad_()
    params = {name: value.clone().requires_grad_() for name, value in params.items()}
    state = how.optimizer.init(params)
    for step in range(how.steps):
        loss = clone_loss(how.architecture, params, x, a, None if noise is None else noise[step])
        grads = torch.autograd.grad(
            loss, list(params.values()), create_graph=True, materialize_grads=True
        )
        params, state = how.optimizer.update(
            params, dict(zip(params, grads, strict=True)), state, how.lr
        )
    losses = outer(params)
    gx, ga = torch.autograd.grad(losses.sum(), [x, a])
    return losses.detach(), gx, ga


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
