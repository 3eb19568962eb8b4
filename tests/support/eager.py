"""An outer step in eager PyTorch, as a baseline for the benchmarks.

Meta-learning loops are commonly written in this form: the trajectory keeps a deep copy of the
module for every inner step; in the reverse pass each step's loss is evaluated again with
``create_graph=True``, and a second backward pass gives the vector-Jacobian product of its gradient.
It takes one seed, does not batch policies and does not cache activations.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn


class Student(nn.Module):
    """The tanh-Gaussian MLP of four layers as a module."""

    def __init__(self, observation_size: int, action_size: int, width: int = 256) -> None:
        super().__init__()
        sizes = [observation_size, width, width, width]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Linear(width, 2 * action_size))
        for module in self.body:
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, gain=2**0.5)
                nn.init.zeros_(module.bias)

    def forward(self, states: Tensor) -> Tensor:
        mean, _ = self.body(states).chunk(2, dim=-1)
        return torch.tanh(mean)


def eager_outer_step(
    x: Tensor,
    a: Tensor,
    states: Tensor,
    target: Tensor,
    *,
    lr: float = 0.1,
    steps: int = 100,
    batches: int = 10,
    width: int = 256,
) -> tuple[float, Tensor, Tensor]:
    """Return the objective and its gradients in the states and actions of the synset."""
    student = Student(x.shape[1], a.shape[1], width)
    trajectory = []
    for _ in range(steps):
        trajectory.append(copy.deepcopy(student))
        student.zero_grad()
        (student(x) - a).square().mean().backward()
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= lr * parameter.grad
    student.zero_grad()
    total = 0.0
    for states_chunk, target_chunk in zip(
        states.chunk(batches), target.chunk(batches), strict=True
    ):
        loss = (student(states_chunk) - target_chunk).square().mean() / batches
        loss.backward()
        total += loss.item()
    cotangent = [parameter.grad.clone() for parameter in student.parameters()]
    gx, ga = torch.zeros_like(x), torch.zeros_like(a)
    for before in reversed(trajectory):
        x_leaf, a_leaf = x.clone().requires_grad_(), a.clone().requires_grad_()
        parameters = list(before.parameters())
        inner = (before(x_leaf) - a_leaf).square().mean()
        grads = torch.autograd.grad(inner, parameters, create_graph=True)
        product = sum((g * v).sum() for g, v in zip(grads, cotangent, strict=True))
        *dv, dx, da = torch.autograd.grad(
            product, [*parameters, x_leaf, a_leaf], materialize_grads=True
        )
        gx -= lr * dx
        ga -= lr * da
        cotangent = [v - lr * d for v, d in zip(cotangent, dv, strict=True)]
    return total, gx, ga
