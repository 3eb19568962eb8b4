r"""The objective after cloning, and its gradient in the student's final parameters.

.. math:: H(\theta) = h\big(\pi_\theta(s)\big), \qquad \nabla_\theta H

:func:`outer_gradient` uses autograd, for any student and any H. If the student is a plain MLP and H
depends only on its actions on given states (:class:`OuterLossOnStates`),
:class:`MlpOuterGradient` uses autograd for :math:`\partial h / \partial u` at the output layer u
only, and goes through the hidden layers by the products that autograd would take, in the same
order and therefore with the same bits:

.. math::
    D_{l-1} = (D_l W_l) \circ [X_{l-1} > 0], \qquad
    \partial H / \partial W_l = D_l^\top X_{l-1}, \qquad
    \partial H / \partial b_l = \textstyle\sum D_l .

It reuses one buffer of states × width per layer, where autograd allocates every intermediate
result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from obdbench.policies.networks import Architecture, Params

OuterLoss = Callable[[Params], Tensor]

relu_backward = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True)
class OuterLossOnStates:
    """An outer loss that is a function of the students' actions on ``states``.

    ``act`` gives the student's deterministic actions. ``states`` has shape (rows, observation) or
    (stack, rows, observation).
    """

    act: Callable[[Params, Tensor], Tensor]
    states: Tensor
    loss: Callable[[Tensor], Tensor]

    def __call__(self, params: Params) -> Tensor:
        """Return H of every policy of the stack."""
        return self.loss(self.act(params, self.states))


def outer_gradient(outer_loss: OuterLoss, params: Params) -> tuple[Tensor, Params]:
    """Return H of every policy and its gradient in the final parameters, by autograd."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    losses = outer_loss(leaves)
    grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
    gradient = {
        name: torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
    }
    return losses.detach(), gradient


@dataclass
class MlpOuterGradient:
    """The outer gradient of plain MLPs, one group of the stack at a time, in reused buffers."""

    architecture: Architecture
    groups: list[slice]
    _buffers: list[Tensor] = field(default_factory=list, init=False)
    _buffer_key: tuple[Any, ...] = field(default=(), init=False)

    def __call__(self, outer_loss: OuterLossOnStates, params: Params) -> tuple[Tensor, Params]:
        """Return H of every policy and its gradient in the final parameters."""
        top, stack = self.architecture.depth - 1, params["w0"].shape[0]
        states = outer_loss.states.expand(stack, *outer_loss.states.shape[-2:])
        rows, output_size = states.shape[1], params[f"b{top}"].shape[1]
        self._allocate(params["w0"], (stack, rows, self.architecture.width))
        *X, spare = self._buffers
        with torch.no_grad():
            u = states.new_empty(stack, rows, output_size)
            for group in self.groups:
                group_X = [x[group] for x in X]
                self._forward(_select(params, group), states[group], group_X, u[group])
        u.requires_grad_()
        losses = outer_loss.loss(torch.tanh(u[..., : output_size // 2]))
        (du,) = torch.autograd.grad(losses.sum(), u)
        with torch.no_grad():
            gradients = [
                self._backward(
                    _select(params, group),
                    states[group],
                    [x[group] for x in X],
                    spare[group],
                    du[group],
                )
                for group in self.groups
            ]
            gradient = gradients[0]
            if len(gradients) > 1:
                gradient = {name: torch.cat([g[name] for g in gradients]) for name in gradient}
        return losses.detach(), gradient

    def _allocate(self, like: Tensor, shape: tuple[int, ...]) -> None:
        """Allocate a buffer per hidden layer and a spare one if shape, type or device changed."""
        key = (shape, like.dtype, like.device)
        if key != self._buffer_key:
            self._buffers = []  # frees the old buffers first
            self._buffers = [like.new_empty(shape) for _ in range(self.architecture.depth)]
            self._buffer_key = key

    def _forward(self, params: Params, x: Tensor, X: list[Tensor], u: Tensor) -> None:
        for i, out in enumerate([*X, u]):
            weight = params[f"w{i}"].transpose(1, 2)
            torch.baddbmm(params[f"b{i}"].unsqueeze(1), x, weight, out=out)
            x = out if out is u else out.relu_()

    def _backward(
        self, params: Params, states: Tensor, X: list[Tensor], spare: Tensor, d: Tensor
    ) -> Params:
        """Go back through the layers; each D overwrites the activations of the layer above."""
        gradient: Params = {}
        for i in range(len(X), -1, -1):
            x = X[i - 1] if i else states
            gradient[f"w{i}"] = torch.bmm(x.transpose(1, 2), d).transpose(1, 2)
            gradient[f"b{i}"] = d.sum(1)
            if i:
                d = torch.bmm(d, params[f"w{i}"], out=spare)
                relu_backward(d, x, 0, grad_input=d)
                spare = x
        return gradient


def _select(params: Params, group: slice) -> Params:
    return {name: value[group] for name, value in params.items()}
