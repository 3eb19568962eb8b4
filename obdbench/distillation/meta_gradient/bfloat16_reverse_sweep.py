r"""The reverse sweep with products of bfloat16 factors in hidden layers.

Students are cloned in float32, as in
:class:`~obdbench.distillation.meta_gradient.reverse_sweep.ReverseSweep`, because rounding errors of
the forward sweep grow over the inner steps. The reverse sweep is linear in (V, c), so its rounding
errors do not grow in this way: the error that they add to the meta-gradient is far below that of
float32 in the forward sweep. Activations and adjoints of hidden layers are kept in bfloat16, which
halves their memory. The products of inner layers, twelve of the eighteen large ones of an inner
step, take bfloat16 factors and accumulate in float32; weights, (V, c), the first and the output
layer and both gradients stay in float32.

This is faster only on processors with instructions for such products
(:func:`~obdbench.policies.torch_settings.has_bfloat16_products`).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.outer_gradient import relu_backward
from obdbench.distillation.meta_gradient.reverse_sweep import ReverseSweep, StepBuffers

BFLOAT16 = torch.bfloat16


class Bfloat16ReverseSweep(ReverseSweep):
    """A reverse sweep that keeps and multiplies hidden layers in bfloat16."""

    record_dtype: ClassVar[torch.dtype | None] = BFLOAT16

    def __post_init__(self) -> None:
        super().__post_init__()
        top, width = self.depth - 1, self.architecture.width
        S, N, K = self.stack, self.pairs, self.kept_steps

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=BFLOAT16, device=self.device)

        self.kept_X = StepBuffers([empty(K, S, N, width) for _ in range(top)])
        self.kept_D = StepBuffers([empty(K, S, N, width) for _ in range(top)])
        self.rounded_W = [empty(S, width, width) for _ in range(top - 1)]
        self.rounded_V = [empty(S, width, width) for _ in range(top - 1)]
        self.rounded_c = [empty(S, 1, width) for _ in range(top - 1)]
        self.rounded_RX = [empty(S, N, width) for _ in range(top)]
        self.rounded_RD = [empty(S, N, width) for _ in range(top)]
        self.rounded_ones = torch.ones(S, 1, N, dtype=BFLOAT16, device=self.device)
        self.product, self.sum = empty(S, width, width), empty(S, 1, width)

    def _allocate_hidden(self, steps: int, layers: int) -> list[Tensor]:
        """Share one float32 buffer per layer among all inner steps."""
        return [buffer.expand(steps, -1, -1, -1) for buffer in super()._allocate_hidden(1, layers)]

    def _keep(self, k: int) -> None:
        """Round the activations and adjoints of the last inner step into record ``k``."""
        _round(self.X.at[k], self.kept_X.at[k])
        self._keep_adjoints(k)

    def _keep_adjoints(self, k: int) -> None:
        _round(self.D.at[k][: self.depth - 1], self.kept_D.at[k])

    def _replace_noise(self, k: int, noise: Tensor) -> None:
        """Compute outputs and adjoints of record ``k`` again with other noise."""
        _round(self.kept_X.at[k], self.X.at[k])
        super()._replace_noise(k, noise)
        self._keep_adjoints(k)

    def _round_inner_layers(self, W: list[Tensor], V: list[Tensor], c: list[Tensor]) -> None:
        inner = slice(1, self.depth - 1)
        _round(W[inner], self.rounded_W)
        _round(V[inner], self.rounded_V)
        _round(c[inner], self.rounded_c)

    def _reverse(self, k: int, gx: Tensor, ga: Tensor, *, is_first: bool) -> None:
        """Reverse one inner step: add to the gradients and carry (V, c) to the step before."""
        top, rate = self.depth - 1, -self.rate
        W, V, c = self.W.at[k], self.V, self.c
        X, D, D_t = self.kept_X.at[k], self.kept_D.at[k], self.kept_D.t[k]
        D_top, D_top_t = self.D.at[k][top], self.D.t[k][top]
        RX, RD, RD_top, RD_top_t = self.rounded_RX, self.rounded_RD, self.RD[top], self.RD_t[top]
        exact_X, exact_X_t = self.X.at[k][top - 1], self.X.t[k][top - 1]
        exact_RX, exact_RX_t = self.RX[top - 1], self.RX_t[top - 1]
        exact_RD, exact_RD_t = self.RD[0], self.RD_t[0]
        self._round_inner_layers(W, V, c)

        torch.bmm(self.x_t, V[0], out=exact_RX)
        RX[0].copy_(exact_RX)
        relu_backward(RX[0], X[0], 0, grad_input=RX[0])
        for i in range(1, top):
            inner_W, inner_V = self.rounded_W[i - 1], self.rounded_V[i - 1]
            torch.baddbmm(self.rounded_c[i - 1], X[i - 1], inner_V.transpose(1, 2), out=RX[i])
            RX[i].baddbmm_(RX[i - 1], inner_W.transpose(1, 2))
            relu_backward(RX[i], X[i], 0, grad_input=RX[i])
        exact_X.copy_(X[top - 1])
        exact_RX.copy_(RX[top - 1])
        ru = torch.baddbmm(c[top], V[top], exact_X_t, out=self.out)
        ru.baddbmm_(W[top], exact_RX_t)

        self._reverse_output(k, ru, ga)

        torch.bmm(D_top_t, V[top], out=exact_RD)
        exact_RD.baddbmm_(RD_top_t, W[top])
        RD[top - 1].copy_(exact_RD)
        relu_backward(RD[top - 1], X[top - 1], 0, grad_input=RD[top - 1])
        if not is_first:
            V[top].baddbmm_(RD_top, exact_X, alpha=rate)
            V[top].baddbmm_(D_top, exact_RX, alpha=rate)
            c[top].baddbmm_(RD_top, self.ones_t, alpha=rate)
        for i in range(top - 1, 0, -1):
            torch.bmm(D[i], self.rounded_V[i - 1], out=RD[i - 1])
            RD[i - 1].baddbmm_(RD[i], self.rounded_W[i - 1])
            relu_backward(RD[i - 1], X[i - 1], 0, grad_input=RD[i - 1])
            if not is_first:
                torch.bmm(RD[i].transpose(1, 2), X[i - 1], out=self.product)
                self.product.baddbmm_(D_t[i], RX[i - 1])
                V[i].add_(self.product, alpha=rate)
                c[i].add_(torch.bmm(self.rounded_ones, RD[i], out=self.sum), alpha=rate)
        exact_RD.copy_(D[0])
        gx.baddbmm_(V[0][:, :-1], exact_RD_t, alpha=rate)
        exact_RD.copy_(RD[0])
        gx.baddbmm_(W[0][:, :-1], exact_RD_t, alpha=rate)
        if not is_first:
            V[0].baddbmm_(self.x, exact_RD, alpha=rate)


def _round(values: list[Tensor], targets: list[Tensor]) -> None:
    for value, target in zip(values, targets, strict=True):
        target.copy_(value)
