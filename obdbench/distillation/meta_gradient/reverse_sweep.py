r"""The exact meta-gradient of MLP students under SGD, by a hand-derived reverse sweep.

Inner step t on the synset (x, a) of N pairs, with :math:`X_0 = x`, :math:`X_l =
\mathrm{relu}(X_{l-1} W_l^\top + b_l)`, output :math:`u = \mu + \sigma\epsilon` (or :math:`\mu`),
:math:`y = \tanh u`, :math:`\kappa = 2 / (N n_a)`, and adjoints kept without their factor κ:

.. math::
    D_L &= (y - a)(1 - y^2), & D_{l-1} &= (D_l W_l) \circ [X_{l-1} > 0] \\
    W_l &\leftarrow W_l - \eta\kappa D_l^\top X_{l-1}, &
    b_l &\leftarrow b_l - \eta\kappa \textstyle\sum D_l

The activations X, the adjoints D and the weights W of every step are kept. With (V, c) the
derivative of the objective in the parameters after step t, the sweep goes back by the directional
derivative (Pearlmutter's R operator, 1994) of the inner gradient:

.. math::
    RX_l &= (X_{l-1} V_l^\top + RX_{l-1} W_l^\top + c_l) \circ [X_l > 0] \\
    RD_L &= Ru\, (1 - y^2)(1 - y^2 - 2 y (y - a)) \\
    RD_{l-1} &= (D_l V_l + RD_l W_l) \circ [X_{l-1} > 0] \\
    \partial x &\mathrel{-}= \eta\kappa (D_1 V_1 + RD_1 W_1), \qquad
    \partial a \mathrel{+}= \eta\kappa (1 - y^2) Ru \\
    V_l &\leftarrow V_l - \eta\kappa (RD_l^\top X_{l-1} + D_l^\top RX_{l-1}), \qquad
    c_l \leftarrow c_l - \eta\kappa \textstyle\sum RD_l

Three matrix products a layer forward, six back, none repeated; sums are folded into the products
(``baddbmm`` accumulates in place). All policies of a stack run in the same products.

Whatever is thin lies on its long side, for BLAS is several times slower on thin columns than on
thin rows: states, actions and outputs are (size, N), and the first layer's weights (inputs + 1,
width), their last row being the bias, which meets a row of ones below the states.

Buffers hold ``slots`` inner steps and are reused from one outer step to the next. Where they do not
hold all the steps to be differentiated, the parameters are kept at the start of each segment, and
a segment that the slots no longer hold is run again before its reverse sweep: the same gradient,
one more forward pass. Steps before the window of a truncated solver run through the same slots and
leave nothing behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from obdbench.distillation.memory_limits import insufficient_memory
from obdbench.distillation.meta_gradient.outer_gradient import mask as _mask
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
    """Buffers and the two sweeps, for stacks of one shape and at most ``steps`` inner steps.

    With a ``window`` only that many last steps are differentiated. ``part`` of the memory is for
    this stack, the rest for others beside it.
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
    memory: int = 2 * 1024**3
    part: float = 1.0
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    slots: int = field(init=False)

    def __post_init__(self) -> None:
        self.depth, width = self.architecture.depth, self.architecture.width
        top = self.depth - 1
        outputs = self.action_size * (2 if self.sampled else 1)
        S, N, n, A = self.stack, self.pairs, self.observation_size, self.action_size
        shapes = _weights(self.architecture, n, outputs)
        self.slot_bytes = slot_size(self.architecture, S, N, n, A, self.sampled, self.dtype)
        kept = min(self.window or self.steps, self.steps)
        self.slots = slots_within(self.memory, self.part, self.slot_bytes, kept, self.steps)
        K = self.slots

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self.dtype, device=self.device)

        self.x, self.a = empty(S, n + 1, N), empty(S, A, N)
        self.x[:, n] = 1.0
        self.xt = self.x.transpose(1, 2)
        self.ones = torch.ones(S, 1, N, dtype=self.dtype, device=self.device)
        self.onest = self.ones.transpose(1, 2)
        self.W = _Slots([empty(K + 1, S, *shape) for shape in shapes])
        self.b = [empty(S, 1, width) for _ in range(top)] + [empty(S, outputs, 1)]  # b_0 is in W_0
        self.X = _Slots([empty(K, S, N, width) for _ in range(top)])
        self.D = _Slots([*(empty(K, S, N, width) for _ in range(top)), empty(K, S, outputs, N)])
        self.Y = _Slots([empty(K, S, A, N) for _ in range(3)])  # y, 1 - y², RD_L / Ru
        self.E = _Slots([empty(K, S, A, N), empty(K, S, outputs, N)]) if self.sampled else None
        self.RX = [empty(S, N, width) for _ in range(top)]
        self.RD = [*(empty(S, N, width) for _ in range(top)), empty(S, outputs, N)]
        self.RXt = [value.transpose(1, 2) for value in self.RX]
        self.RDt = [value.transpose(1, 2) for value in self.RD]
        self.out, self.error = empty(S, outputs, N), empty(S, A, N)
        self.rate = self.lr * 2.0 / (N * A)

    def learn(
        self,
        params: Params,
        x: Tensor,
        a: Tensor,
        noise: Tensor | None = None,
        *,
        steps: int | None = None,
    ) -> Params:
        """Clone, remembering what :meth:`back` needs, and return the parameters.

        ``steps`` ends the loop before the most it can take.
        """
        self.noise = noise
        self.x[:, :-1].copy_(x.transpose(1, 2))
        self.a.copy_(a.transpose(1, 2))
        self._load(self._own(params))
        end = self.steps if steps is None else steps
        self.first = end - min(self.window or end, end)
        cuts = [*range(0, self.first, self.slots), *range(self.first, end, self.slots), end]
        self.marks: list[tuple[int, int, list[Tensor]]] = []
        again = end - self.first > self.slots
        for start, stop in pairwise(cuts):
            if start >= self.first:
                saved = [value.clone() for value in self.W.at[0] + self.b] if again else []
                self.marks.append((start, stop, saved))
            self._forward(start, stop)
            self.held = start
            if stop < end:
                for target, value in zip(self.W.at[0], self.W.at[stop - start], strict=True):
                    target.copy_(value)
        return self._unload(params, self.W.at[stop - start])

    def back(
        self, gradient: Params, *, reverse_noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Carry the derivative in the final parameters back into states and actions.

        ``reverse_noise`` replaces the noise the cloning used, which is what the published code does
        and makes the gradient inexact. May be called again for the same cloning.
        """
        own = [value.clone() for value in self._own(gradient)]
        self.V, self.c = own[: self.depth], own[self.depth :]
        self.Vt = [value.transpose(1, 2) for value in self.V]
        gx, ga = torch.zeros_like(self.x[:, :-1]), torch.zeros_like(self.a)
        for start, stop, saved in reversed(self.marks):
            if saved and start != self.held:  # the slots hold another segment
                self._load(saved)
                self._forward(start, stop)
                self.held = start
            for step in reversed(range(start, stop)):
                if reverse_noise is not None:
                    self._redraw(step - start, reverse_noise[step])
                self._reverse(step - start, gx, ga, last=step == self.first)
        return gx.transpose(1, 2).contiguous(), ga.transpose(1, 2).contiguous()

    def _load(self, values: list[Tensor]) -> None:
        for target, value in zip(self.W.at[0] + self.b, values, strict=True):
            target.copy_(value)

    def _own(self, params: Params) -> list[Tensor]:
        """Parameters, or a derivative in them, in this sweep's shapes: weights, then biases."""
        top, rows = self.depth - 1, self.out.shape[1]
        first = torch.cat([params["w0"].transpose(1, 2), params["b0"].unsqueeze(1)], 1)
        return [
            first,
            *(params[f"w{i}"] for i in range(1, top)),
            params[f"w{top}"][:, :rows],
            *(params[f"b{i}"].unsqueeze(1) for i in range(top)),
            params[f"b{top}"][:, :rows].unsqueeze(2),
        ]

    def _unload(self, params: Params, W: list[Tensor]) -> Params:
        top = self.depth - 1
        learned = {"w0": W[0][:, :-1].transpose(1, 2).contiguous(), "b0": W[0][:, -1].clone()}
        for i in range(1, top + 1):
            learned[f"w{i}"], learned[f"b{i}"] = W[i].clone(), self.b[i].flatten(1).clone()
        if not self.sampled:  # the log std half of the head never moved
            for name in (f"w{top}", f"b{top}"):
                learned[name] = torch.cat([learned[name], params[name][:, self.action_size :]], 1)
        return {name: learned[name] for name in params}

    def _forward(self, start: int, end: int) -> None:
        top, rate, b = self.depth - 1, -self.rate, self.b
        for step in range(start, end):
            k = step - start
            X, Xt, W, Wt, new = (
                self.X.at[k],
                self.X.t[k],
                self.W.at[k],
                self.W.t[k],
                self.W.at[k + 1],
            )
            torch.bmm(self.xt, W[0], out=X[0]).relu_()
            for i in range(1, top):
                torch.baddbmm(b[i], X[i - 1], Wt[i], out=X[i]).relu_()
            torch.baddbmm(b[top], W[top], Xt[top - 1], out=self.out)
            self._output(k, self.out, None if self.noise is None else self.noise[step])
            self._adjoints(k)
            D, Dt = self.D.at[k], self.D.t[k]
            torch.baddbmm(W[0], self.x, D[0], alpha=rate, out=new[0])
            for i in range(1, top):
                torch.baddbmm(W[i], Dt[i], X[i - 1], alpha=rate, out=new[i])
                b[i].baddbmm_(self.ones, D[i], alpha=rate)
            torch.baddbmm(W[top], D[top], X[top - 1], alpha=rate, out=new[top])
            b[top].baddbmm_(D[top], self.onest, alpha=rate)
        self._curvature([y[: end - start] for y in self.Y.all], self.D.all[top][: end - start])

    def _output(self, k: int, out: Tensor, noise: Tensor | None) -> None:
        """Fill y and D_L (and d u / d raw log std) of slot ``k`` from the output layer."""
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
        """Fill D_{L-1} … D_1 of slot ``k`` from D_L."""
        top, X, D, W = self.depth - 1, self.X.at[k], self.D.at[k], self.W.at[k]
        torch.bmm(self.D.t[k][top], W[top], out=D[top - 1])
        _mask(D[top - 1], X[top - 1], 0, grad_input=D[top - 1])
        for i in range(top - 1, 0, -1):
            torch.bmm(D[i], W[i], out=D[i - 1])
            _mask(D[i - 1], X[i - 1], 0, grad_input=D[i - 1])

    def _curvature(self, kept: list[Tensor], d: Tensor) -> None:
        """1 - y² and RD_L / Ru from y and D_L, of one slot or of many."""
        y, slope, curve = kept
        torch.mul(y, y, out=slope).neg_().add_(1)
        torch.mul(y, d[..., : self.action_size, :], out=curve).mul_(-2).addcmul_(slope, slope)

    def _redraw(self, k: int, noise: Tensor) -> None:
        """Put fresh noise into a slot whose hidden activations stand."""
        assert self.E is not None
        self._output(k, self.E.at[k][1], noise)
        self._adjoints(k)
        self._curvature(self.Y.at[k], self.D.at[k][-1])

    def _reverse(self, k: int, gx: Tensor, ga: Tensor, *, last: bool) -> None:
        """One inner step back: into the synset, and (V, c) to the parameters before it."""
        top, rate, A = self.depth - 1, -self.rate, self.action_size
        X, Xt, D, Dt = self.X.at[k], self.X.t[k], self.D.at[k], self.D.t[k]
        W, Wt, V, Vt, c = self.W.at[k], self.W.t[k], self.V, self.Vt, self.c
        RX, RXt, RD, RDt = self.RX, self.RXt, self.RD, self.RDt
        _, slope, curve = self.Y.at[k]

        torch.bmm(self.xt, V[0], out=RX[0])
        _mask(RX[0], X[0], 0, grad_input=RX[0])
        for i in range(1, top):
            torch.baddbmm(c[i], X[i - 1], Vt[i], out=RX[i])
            RX[i].baddbmm_(RX[i - 1], Wt[i])
            _mask(RX[i], X[i], 0, grad_input=RX[i])
        ru = torch.baddbmm(c[top], V[top], Xt[top - 1], out=self.out)
        ru.baddbmm_(W[top], RXt[top - 1])

        if self.E is None:
            torch.mul(ru, curve, out=RD[top])
        else:
            e, raw = self.E.at[k][0], ru[:, A:]
            ru = ru[:, :A].addcmul_(e, raw)
            du = torch.mul(ru, curve, out=RD[top][:, :A])
            torch.mul(du, e, out=RD[top][:, A:]).addcmul_(D[top][:, A:], raw)
        ga.addcmul_(slope, ru, value=-rate)

        torch.bmm(Dt[top], V[top], out=RD[top - 1])
        RD[top - 1].baddbmm_(RDt[top], W[top])
        _mask(RD[top - 1], X[top - 1], 0, grad_input=RD[top - 1])
        if not last:
            V[top].baddbmm_(RD[top], X[top - 1], alpha=rate)
            V[top].baddbmm_(D[top], RX[top - 1], alpha=rate)
            c[top].baddbmm_(RD[top], self.onest, alpha=rate)
        for i in range(top - 1, 0, -1):
            torch.bmm(D[i], V[i], out=RD[i - 1])
            RD[i - 1].baddbmm_(RD[i], W[i])
            _mask(RD[i - 1], X[i - 1], 0, grad_input=RD[i - 1])
            if not last:
                V[i].baddbmm_(RDt[i], X[i - 1], alpha=rate)
                V[i].baddbmm_(Dt[i], RX[i - 1], alpha=rate)
                c[i].baddbmm_(self.ones, RD[i], alpha=rate)
        gx.baddbmm_(V[0][:, :-1], Dt[0], alpha=rate)
        gx.baddbmm_(W[0][:, :-1], RDt[0], alpha=rate)
        if not last:
            V[0].baddbmm_(self.x, RD[0], alpha=rate)


def _weights(architecture: Architecture, inputs: int, outputs: int) -> list[tuple[int, int]]:
    """Shapes of the weights as they lie here, the first layer's with its bias."""
    width = architecture.width
    return [(inputs + 1, width), *[(width, width)] * (architecture.depth - 2), (outputs, width)]


def slot_size(
    architecture: Architecture,
    stack: int,
    pairs: int,
    observation_size: int,
    action_size: int,
    sampled: bool,
    dtype: torch.dtype,
) -> int:
    """Bytes that one inner step of a stack is kept in."""
    outputs = action_size * (2 if sampled else 1)
    shapes = _weights(architecture, observation_size, outputs)
    weights = sum(rows * columns for rows, columns in shapes)
    thin = outputs + 3 * action_size + (outputs + action_size if sampled else 0)
    hidden = 2 * (architecture.depth - 1) * architecture.width
    return dtype.itemsize * stack * (weights + pairs * (hidden + thin))


def slots_within(memory: int, part: float, slot: int, kept: int, steps: int) -> int:
    """How many of the inner steps to be differentiated are kept at once."""
    slots = min(kept, int(memory * part // slot))
    if slots < math.isqrt(kept):
        need = slot * math.isqrt(kept) / part
        what = f"the inner loop of {steps} steps"
        raise insufficient_memory(memory, need, what, "use fewer pairs or seeds")
    return slots


class _Slots:
    """Buffers of many inner steps and their views, made once: ``at[step][layer]``, turned ``t``."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.all = tensors
        self.at = [list(views) for views in zip(*(t.unbind(0) for t in tensors), strict=True)]
        self.t = [[view.transpose(1, 2) for view in views] for views in self.at]
