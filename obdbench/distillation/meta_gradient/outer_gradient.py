r"""The objective after cloning, and its derivative in the final parameters.

.. math:: H(\theta) = h\big(\pi_\theta(s)\big), \qquad \nabla_\theta H

:func:`derivative` leaves both to autograd, for any student and any H. Where the student is a plain
MLP and H sees nothing of it but its actions on given states (:class:`OuterLossOnStates`),
:class:`MlpOuterGradient` asks autograd for :math:`\partial h / \partial u` at the output layer u alone
and goes through the hidden layers itself, by the same products in the same order, so to the same
bits:

.. math::
    D_{l-1} = (D_l W_l) \circ [X_{l-1} > 0], \qquad
    \partial H / \partial W_l = D_l^\top X_{l-1}, \qquad
    \partial H / \partial b_l = \textstyle\sum D_l .

One buffer of states × width a layer is kept from step to step, where autograd takes fresh memory
for every intermediate result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from obdbench.policies.networks import Architecture, Params

OuterLoss = Callable[[Params], Tensor]

mask = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True)
class OuterLossOnStates:
    """An outer loss that is a function of the students' actions on ``states``.

    ``act`` is the student's, with its mode as action; ``states`` are (N, n) or (S, N, n).
    """

    act: Callable[[Params, Tensor], Tensor]
    states: Tensor
    loss: Callable[[Tensor], Tensor]

    def __call__(self, params: Params) -> Tensor:
        """H of every policy of the stack."""
        return self.loss(self.act(params, self.states))


def outer_gradient(outer: OuterLoss, params: Params) -> tuple[Tensor, Params]:
    """H of every policy, and its derivative in the final parameters."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    losses = outer(leaves)
    grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
    gradient = {
        name: torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
    }
    return losses.detach(), gradient


@dataclass
class MlpOuterGradient:
    """The derivative for plain MLPs, group by group of a stack; its buffers are reused."""

    architecture: Architecture
    groups: list[slice]
    _buffers: list[Tensor] = field(default_factory=list, init=False)
    _key: tuple[Any, ...] = field(default=(), init=False)

    def __call__(self, outer: OuterLossOnStates, params: Params) -> tuple[Tensor, Params]:
        """H of every policy, and its derivative in the final parameters."""
        top, stack = self.architecture.depth - 1, params["w0"].shape[0]
        states = outer.states.expand(stack, *outer.states.shape[-2:])
        rows, output = states.shape[1], params[f"b{top}"].shape[1]
        self._fit(params["w0"], (stack, rows, self.architecture.width))
        *X, spare = self._buffers
        with torch.no_grad():
            u = states.new_empty(stack, rows, output)
            for group in self.groups:
                self._forth(_of(params, group), states[group], [x[group] for x in X], u[group])
        leaf = u.requires_grad_()
        losses = outer.loss(torch.tanh(leaf[..., : output // 2]))
        (du,) = torch.autograd.grad(losses.sum(), leaf)
        with torch.no_grad():
            parts = [
                self._back(
                    _of(params, group),
                    states[group],
                    [x[group] for x in X],
                    spare[group],
                    du[group],
                )
                for group in self.groups
            ]
            gradient = parts[0]
            if len(parts) > 1:
                gradient = {name: torch.cat([part[name] for part in parts]) for name in gradient}
        return losses.detach(), gradient

    def _fit(self, like: Tensor, shape: tuple[int, ...]) -> None:
        """One buffer a hidden layer and a spare one, made anew only when shape or type changes."""
        key = (shape, like.dtype, like.device)
        if key != self._key:
            self._buffers = []  # before the new ones are made
            self._buffers = [like.new_empty(shape) for _ in range(self.architecture.depth)]
            self._key = key

    def _forth(self, params: Params, x: Tensor, X: list[Tensor], u: Tensor) -> None:
        for i, into in enumerate([*X, u]):
            weight = params[f"w{i}"].transpose(1, 2)
            torch.baddbmm(params[f"b{i}"].unsqueeze(1), x, weight, out=into)
            x = into if into is u else into.relu_()

    def _back(
        self, params: Params, states: Tensor, X: list[Tensor], spare: Tensor, d: Tensor
    ) -> Params:
        """Each D takes the buffer of the activations above, which nobody needs any more."""
        gradient: Params = {}
        for i in range(len(X), -1, -1):
            x = X[i - 1] if i else states
            gradient[f"w{i}"] = torch.bmm(x.transpose(1, 2), d).transpose(1, 2)
            gradient[f"b{i}"] = d.sum(1)
            if i:
                d = torch.bmm(d, params[f"w{i}"], out=spare)
                mask(d, x, 0, grad_input=d)
                spare = x
        return gradient


def _of(params: Params, group: slice) -> Params:
    return {name: value[group] for name, value in params.items()}
