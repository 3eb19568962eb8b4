r"""The exact meta-gradient of MLP students under SGD, by a hand-derived reverse sweep.

Inner step t on the synset (x, a) of N pairs, with :math:`X_0 = x`, :math:`X_l =
\mathrm{relu}(X_{l-1} W_l^\top + b_l)`, output :math:`u = \mu + \sigma\epsilon` (or :math:`\mu`),
:math:`y = \tanh u`, :math:`\kappa = 2 / (N n_a)`, and adjoints D that leave out their factor κ:

.. math::
    D_L &= (y - a)(1 - y^2), & D_{l-1} &= (D_l W_l) \circ [X_{l-1} > 0] \\
    W_l &\leftarrow W_l - \eta\kappa D_l^\top X_{l-1}, &
    b_l &\leftarrow b_l - \eta\kappa \textstyle\sum D_l

The activations X, the adjoints D and the weights W of every step are kept. With (V, c) the
gradient of the objective in the parameters after step t, the reverse sweep applies the directional
derivative of the inner gradient (the R operator of Pearlmutter, 1994, "Fast exact multiplication by
the Hessian"):

.. math::
    RX_l &= (X_{l-1} V_l^\top + RX_{l-1} W_l^\top + c_l) \circ [X_l > 0] \\
    RD_L &= Ru\, (1 - y^2)(1 - y^2 - 2 y (y - a)) \\
    RD_{l-1} &= (D_l V_l + RD_l W_l) \circ [X_{l-1} > 0] \\
    \partial x &\mathrel{-}= \eta\kappa (D_1 V_1 + RD_1 W_1), \qquad
    \partial a \mathrel{+}= \eta\kappa (1 - y^2) Ru \\
    V_l &\leftarrow V_l - \eta\kappa (RD_l^\top X_{l-1} + D_l^\top RX_{l-1}), \qquad
    c_l \leftarrow c_l - \eta\kappa \textstyle\sum RD_l

A layer takes three matrix products forward and six in reverse, none of them twice; sums are part of
the products (``baddbmm`` accumulates in place). All policies of a stack share the same products.

Thin matrices are stored with their long side contiguous, because BLAS multiplies thin columns
several times more slowly than thin rows: states, actions and outputs have shape (size, N), and the
first layer's weights have shape (inputs + 1, width), where the last row is the bias, which meets a
row of ones below the states.

The buffers hold the records of ``kept_steps`` inner steps and are reused in the next outer step. If
they do not hold all steps that are differentiated, the parameters at the start of every segment are
kept, and a segment that was overwritten runs again before its reverse sweep: the same gradient, at
the cost of one more forward pass. Steps before the window of a truncated solver run in the same
buffers and are not kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES, insufficient_memory
from obdbench.distillation.meta_gradient.outer_gradient import relu_backward as _relu_backward
from obdbench.policies.networks import (
    LOG_STD_MAX,
    LOG_STD_MIN,
    LOG_STD_OFFSET,
    Architecture,
    Params,
)

_tanh_backward = torch.ops.aten.tanh_backward.grad_input


@dataclass
class ReverseSweep:
    """The forward and the reverse sweep of stacks of one shape, and their buffers.

    ``steps`` is the largest number of inner steps. With ``window`` only that many last steps are
    differentiated. ``sampled`` students act with noise while they are cloned. ``memory_share`` is
    this stack's part of the ``memory`` bytes.
    """

    architecture: Architecture
    stack: int
    pairs: int
    observation_size: int
    action_size: int
    lr: float
    steps: int
    window: int | None = None
    sampled: bool = False
    memory: int = DEFAULT_MEMORY_BYTES
    memory_share: float = 1.0
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    kept_steps: int = field(init=False)
    record_dtype: ClassVar[torch.dtype | None] = None  # of activations and adjoints; else ``dtype``

    def __post_init__(self) -> None:
        self.depth, width = self.architecture.depth, self.architecture.width
        top = self.depth - 1
        outputs = self.action_size * (2 if self.sampled else 1)
        S, N, n, A = self.stack, self.pairs, self.observation_size, self.action_size
        shapes = _weight_shapes(self.architecture, n, outputs)
        self.record_bytes = step_record_bytes(
            self.architecture, S, N, n, A, self.sampled, self.dtype, self.record_dtype
        )
        differentiated = min(self.window or self.steps, self.steps)
        self.kept_steps = max_kept_steps(
            self.memory, self.memory_share, self.record_bytes, differentiated, self.steps
        )
        K = self.kept_steps

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self.dtype, device=self.device)

        self.x, self.a = empty(S, n + 1, N), empty(S, A, N)
        self.x[:, n] = 1.0
        self.x_t = self.x.transpose(1, 2)
        self.ones = torch.ones(S, 1, N, dtype=self.dtype, device=self.device)
        self.ones_t = self.ones.transpose(1, 2)
        self.W = StepBuffers([empty(K + 1, S, *shape) for shape in shapes])
        self.b = [empty(S, 1, width) for _ in range(top)] + [empty(S, outputs, 1)]  # b_0 is in W_0
        self.X = StepBuffers(self._allocate_hidden(K, top))
        self.D = StepBuffers([*self._allocate_hidden(K, top), empty(K, S, outputs, N)])
        self.Y = StepBuffers([empty(K, S, A, N) for _ in range(3)])  # y, 1 - y², RD_L / Ru
        self.E = StepBuffers([empty(K, S, A, N), empty(K, S, outputs, N)]) if self.sampled else None
        self.RX = [empty(S, N, width) for _ in range(top)]
        self.RD = [*(empty(S, N, width) for _ in range(top)), empty(S, outputs, N)]
        self.RX_t = [value.transpose(1, 2) for value in self.RX]
        self.RD_t = [value.transpose(1, 2) for value in self.RD]
        self.out, self.error = empty(S, outputs, N), empty(S, A, N)
        self.rate = self.lr * 2.0 / (N * A)

    def _allocate_hidden(self, steps: int, layers: int) -> list[Tensor]:
        """Allocate a buffer of every hidden layer for this many inner steps."""
        shape = (steps, self.stack, self.pairs, self.architecture.width)
        return [torch.empty(shape, dtype=self.dtype, device=self.device) for _ in range(layers)]

    def run_forward(
        self,
        params: Params,
        x: Tensor,
        a: Tensor,
        noise: Tensor | None = None,
        *,
        steps: int | None = None,
    ) -> Params:
        """Clone, keep what :meth:`run_backward` needs, and return the final parameters.

        ``steps`` ends the inner loop before the largest number of steps.
        """
        self.noise = noise
        self.x[:, :-1].copy_(x.transpose(1, 2))
        self.a.copy_(a.transpose(1, 2))
        self._set_params(self._to_internal(params))
        end = self.steps if steps is None else steps
        self.first = end - min(self.window or end, end)
        starts = [
            *range(0, self.first, self.kept_steps),
            *range(self.first, end, self.kept_steps),
            end,
        ]
        self.segments: list[tuple[int, int, list[Tensor]]] = []
        is_segmented = end - self.first > self.kept_steps
        for start, stop in pairwise(starts):
            if start >= self.first:
                params_at_start = [v.clone() for v in self.W.at[0] + self.b] if is_segmented else []
                self.segments.append((start, stop, params_at_start))
            self._forward(start, stop)
            self.buffered_start = start
            if stop < end:
                for target, value in zip(self.W.at[0], self.W.at[stop - start], strict=True):
                    target.copy_(value)
        return self._to_params(params, self.W.at[stop - start])

    def run_backward(
        self, gradient: Params, *, reverse_noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients in states and actions, given that in the final parameters.

        ``reverse_noise`` replaces the noise of the forward sweep, as in the published code, and
        makes the gradient inexact. The method may be called again after the same forward sweep.
        """
        internal = [value.clone() for value in self._to_internal(gradient)]
        self.V, self.c = internal[: self.depth], internal[self.depth :]
        self.V_t = [value.transpose(1, 2) for value in self.V]
        gx, ga = torch.zeros_like(self.x[:, :-1]), torch.zeros_like(self.a)
        for start, stop, params_at_start in reversed(self.segments):
            if params_at_start and start != self.buffered_start:
                self._set_params(params_at_start)
                self._forward(start, stop)
                self.buffered_start = start
            for step in reversed(range(start, stop)):
                if reverse_noise is not None:
                    self._replace_noise(step - start, reverse_noise[step])
                self._reverse(step - start, gx, ga, is_first=step == self.first)
        return gx.transpose(1, 2).contiguous(), ga.transpose(1, 2).contiguous()

    def _set_params(self, values: list[Tensor]) -> None:
        for target, value in zip(self.W.at[0] + self.b, values, strict=True):
            target.copy_(value)

    def _to_internal(self, params: Params) -> list[Tensor]:
        """Return parameters or their gradient in the internal layout: weights, then biases."""
        top, rows = self.depth - 1, self.out.shape[1]
        first = torch.cat([params["w0"].transpose(1, 2), params["b0"].unsqueeze(1)], 1)
        return [
            first,
            *(params[f"w{i}"] for i in range(1, top)),
            params[f"w{top}"][:, :rows],
            *(params[f"b{i}"].unsqueeze(1) for i in range(top)),
            params[f"b{top}"][:, :rows].unsqueeze(2),
        ]

    def _to_params(self, params: Params, W: list[Tensor]) -> Params:
        """Return final parameters in the student's layout."""
        top = self.depth - 1
        final = {"w0": W[0][:, :-1].transpose(1, 2).contiguous(), "b0": W[0][:, -1].clone()}
        for i in range(1, top + 1):
            final[f"w{i}"], final[f"b{i}"] = W[i].clone(), self.b[i].flatten(1).clone()
        if not self.sampled:  # the log std half of the head is not trained
            for name in (f"w{top}", f"b{top}"):
                final[name] = torch.cat([final[name], params[name][:, self.action_size :]], 1)
        return {name: final[name] for name in params}

    def _forward(self, start: int, end: int) -> None:
        """Take inner steps ``start`` to ``end`` from the parameters in record 0."""
        top, rate, b = self.depth - 1, -self.rate, self.b
        for step in range(start, end):
            k = step - start
            X, X_t, W, W_t = self.X.at[k], self.X.t[k], self.W.at[k], self.W.t[k]
            new = self.W.at[k + 1]
            torch.bmm(self.x_t, W[0], out=X[0]).relu_()
            for i in range(1, top):
                torch.baddbmm(b[i], X[i - 1], W_t[i], out=X[i]).relu_()
            torch.baddbmm(b[top], W[top], X_t[top - 1], out=self.out)
            self._output(k, self.out, None if self.noise is None else self.noise[step])
            self._adjoints(k)
            D, D_t = self.D.at[k], self.D.t[k]
            torch.baddbmm(W[0], self.x, D[0], alpha=rate, out=new[0])
            for i in range(1, top):
                torch.baddbmm(W[i], D_t[i], X[i - 1], alpha=rate, out=new[i])
                b[i].baddbmm_(self.ones, D[i], alpha=rate)
            torch.baddbmm(W[top], D[top], X[top - 1], alpha=rate, out=new[top])
            b[top].baddbmm_(D[top], self.ones_t, alpha=rate)
            self._keep(k)
        self._curvature([y[: end - start] for y in self.Y.all], self.D.all[top][: end - start])

    def _keep(self, k: int) -> None:
        """Keep the activations and adjoints of record ``k``, which are in place already."""

    def _output(self, k: int, out: Tensor, noise: Tensor | None) -> None:
        """Write y and D_L, and du / d(raw log std), of record ``k`` from the output layer."""
        y, d, A = self.Y.at[k][0], self.D.at[k][-1], self.action_size
        if self.E is None or noise is None:
            torch.tanh(out, out=y)
            torch.sub(y, self.a, out=self.error)
            _tanh_backward(self.error, y, grad_input=d)
            return
        if out is self.out:
            self.E.at[k][1].copy_(out)
        noise = noise.transpose(1, 2)
        shifted = out[:, A:] + LOG_STD_OFFSET
        inside = (shifted >= LOG_STD_MIN) & (shifted <= LOG_STD_MAX)
        spread = shifted.clamp(LOG_STD_MIN, LOG_STD_MAX).exp().mul_(noise)
        torch.tanh(out[:, :A] + spread, out=y)
        slope = torch.mul(spread, inside, out=self.E.at[k][0])
        torch.sub(y, self.a, out=self.error)
        du = torch.ops.aten.tanh_backward(self.error, y)
        d[:, :A] = du
        torch.mul(du, slope, out=d[:, A:])

    def _adjoints(self, k: int) -> None:
        """Write D_{L-1} … D_1 of record ``k`` from D_L."""
        top, X, D, W = self.depth - 1, self.X.at[k], self.D.at[k], self.W.at[k]
        torch.bmm(self.D.t[k][top], W[top], out=D[top - 1])
        _relu_backward(D[top - 1], X[top - 1], 0, grad_input=D[top - 1])
        for i in range(top - 1, 0, -1):
            torch.bmm(D[i], W[i], out=D[i - 1])
            _relu_backward(D[i - 1], X[i - 1], 0, grad_input=D[i - 1])

    def _curvature(self, output: list[Tensor], d: Tensor) -> None:
        """Write 1 - y² and RD_L / Ru from y and D_L, of one record or of several."""
        y, slope, curve = output
        torch.mul(y, y, out=slope).neg_().add_(1)
        torch.mul(y, d[..., : self.action_size, :], out=curve).mul_(-2).addcmul_(slope, slope)

    def _replace_noise(self, k: int, noise: Tensor) -> None:
        """Compute outputs and adjoints of record ``k`` again with other noise."""
        assert self.E is not None
        self._output(k, self.E.at[k][1], noise)
        self._adjoints(k)
        self._curvature(self.Y.at[k], self.D.at[k][-1])

    def _reverse(self, k: int, gx: Tensor, ga: Tensor, *, is_first: bool) -> None:
        """Reverse one inner step: add to the gradients and carry (V, c) to the step before.

        ``is_first`` marks the first differentiated step, after which (V, c) is not needed.
        """
        top, rate = self.depth - 1, -self.rate
        X, X_t, D, D_t = self.X.at[k], self.X.t[k], self.D.at[k], self.D.t[k]
        W, W_t, V, V_t, c = self.W.at[k], self.W.t[k], self.V, self.V_t, self.c
        RX, RX_t, RD, RD_t = self.RX, self.RX_t, self.RD, self.RD_t

        torch.bmm(self.x_t, V[0], out=RX[0])
        _relu_backward(RX[0], X[0], 0, grad_input=RX[0])
        for i in range(1, top):
            torch.baddbmm(c[i], X[i - 1], V_t[i], out=RX[i])
            RX[i].baddbmm_(RX[i - 1], W_t[i])
            _relu_backward(RX[i], X[i], 0, grad_input=RX[i])
        ru = torch.baddbmm(c[top], V[top], X_t[top - 1], out=self.out)
        ru.baddbmm_(W[top], RX_t[top - 1])

        self._reverse_output(k, ru, ga)

        torch.bmm(D_t[top], V[top], out=RD[top - 1])
        RD[top - 1].baddbmm_(RD_t[top], W[top])
        _relu_backward(RD[top - 1], X[top - 1], 0, grad_input=RD[top - 1])
        if not is_first:
            V[top].baddbmm_(RD[top], X[top - 1], alpha=rate)
            V[top].baddbmm_(D[top], RX[top - 1], alpha=rate)
            c[top].baddbmm_(RD[top], self.ones_t, alpha=rate)
        for i in range(top - 1, 0, -1):
            torch.bmm(D[i], V[i], out=RD[i - 1])
            RD[i - 1].baddbmm_(RD[i], W[i])
            _relu_backward(RD[i - 1], X[i - 1], 0, grad_input=RD[i - 1])
            if not is_first:
                V[i].baddbmm_(RD_t[i], X[i - 1], alpha=rate)
                V[i].baddbmm_(D_t[i], RX[i - 1], alpha=rate)
                c[i].baddbmm_(self.ones, RD[i], alpha=rate)
        gx.baddbmm_(V[0][:, :-1], D_t[0], alpha=rate)
        gx.baddbmm_(W[0][:, :-1], RD_t[0], alpha=rate)
        if not is_first:
            V[0].baddbmm_(self.x, RD[0], alpha=rate)

    def _reverse_output(self, k: int, ru: Tensor, ga: Tensor) -> None:
        """Write RD_L of record ``k`` from Ru, and add to the gradient in the actions."""
        A, target = self.action_size, self.RD[self.depth - 1]
        _, slope, curve = self.Y.at[k]
        if self.E is None:
            torch.mul(ru, curve, out=target)
        else:
            e, raw = self.E.at[k][0], ru[:, A:]
            ru = ru[:, :A].addcmul_(e, raw)
            du = torch.mul(ru, curve, out=target[:, :A])
            torch.mul(du, e, out=target[:, A:]).addcmul_(self.D.at[k][-1][:, A:], raw)
        ga.addcmul_(slope, ru, value=self.rate)


def _weight_shapes(architecture: Architecture, inputs: int, outputs: int) -> list[tuple[int, int]]:
    """Return the weights' shapes in the internal layout, the first layer's with its bias."""
    width = architecture.width
    return [(inputs + 1, width), *[(width, width)] * (architecture.depth - 2), (outputs, width)]


def step_record_bytes(
    architecture: Architecture,
    stack: int,
    pairs: int,
    observation_size: int,
    action_size: int,
    sampled: bool,
    dtype: torch.dtype,
    record_dtype: torch.dtype | None = None,
) -> int:
    """Return the size of the record of one inner step of a stack.

    Activations and adjoints of hidden layers have the type ``record_dtype``, else ``dtype``.
    """
    outputs = action_size * (2 if sampled else 1)
    shapes = _weight_shapes(architecture, observation_size, outputs)
    weights = sum(rows * columns for rows, columns in shapes)
    thin = outputs + 3 * action_size + (outputs + action_size if sampled else 0)
    hidden = 2 * (architecture.depth - 1) * architecture.width
    hidden_bytes = pairs * hidden * (record_dtype or dtype).itemsize
    return stack * ((weights + pairs * thin) * dtype.itemsize + hidden_bytes)


def max_kept_steps(
    memory: int, memory_share: float, record_bytes: int, differentiated: int, steps: int
) -> int:
    """Return how many of the ``differentiated`` inner steps fit into the memory share at once.

    Fewer than the square root of their number are refused: the parameters at the starts of the
    segments alone would then exceed the memory.
    """
    kept_steps = min(differentiated, int(memory * memory_share // record_bytes))
    least = math.isqrt(differentiated)
    if kept_steps < least:
        required = record_bytes * least / memory_share
        contents = f"the inner loop of {steps} steps"
        raise insufficient_memory(memory, required, contents, "use fewer pairs or seeds")
    return kept_steps


class StepBuffers:
    """Buffers for several inner steps: views ``at[step][layer]`` and their transposes ``t``."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.all = tensors
        self.at = [list(views) for views in zip(*(t.unbind(0) for t in tensors), strict=True)]
        self.t = [[view.transpose(1, 2) for view in views] for views in self.at]
