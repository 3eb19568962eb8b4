r"""The objective after cloning, and its gradient in the student's final parameters, by autograd.

.. math:: H(\theta) = h\big(\pi_\theta(s)\big), \qquad \nabla_\theta H
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from obdbench.policies.networks import Params

OuterLoss = Callable[[Params], Tensor]


def outer_gradient(outer_loss: OuterLoss, params: Params) -> tuple[Tensor, Params]:
    """Return H of every policy and its gradient in the final parameters."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    losses = outer_loss(leaves)
    grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
    gradient = {
        name: torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
    }
    return losses.detach(), gradient
