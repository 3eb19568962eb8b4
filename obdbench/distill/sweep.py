r"""The exact meta-gradient of MLP students under SGD, by a hand-derived reverse sweep.

Inner step t on the synset (x, a) of N pairs, with :math:`X_0 = x`, :math:`X_l =
\mathrm{relu}(X_{l-1} W_l^\top + b_l)`, output :math:`u = \mu + \sigma\epsilon` (or :math:`\mu`),
:math:`y = \tanh u`, :math:`\kappa = 2 / (N n_a)`:

.. math::
    D_L &= \kappa (y - a)(1 - y^2), & D_{l-1} &= (D_l W_l) \circ [X_{l-1} > 0] \\
    W_l &\leftarrow W_l - \eta D_l^\top X_{l-1}, & b_l &\leftarrow b_l - \eta \textstyle\sum D_l

The activations X, the adjoints D and the weights W of every step are kept. With (V, c) the
derivative of the objective in the parameters after step t, the sweep goes back by the directional
derivative (Pearlmutter's R operator, 1994) of the inner gradient:

.. math::
    RX_l &= (X_{l-1} V_l^\top + RX_{l-1} W_l^\top + c_l) \circ [X_l > 0] \\
    RD_L &= \kappa\, Ru\, (1 - y^2)(1 - y^2 - 2 y (y - a)) \\
    RD_{l-1} &= (D_l V_l + RD_l W_l) \circ [X_{l-1} > 0] \\
    \partial x &\mathrel{-}= \eta (D_1 V_1 + RD_1 W_1), \qquad
    \partial a \mathrel{+}= \eta \kappa (1 - y^2) Ru \\
    V_l &\leftarrow V_l - \eta (RD_l^\top X_{l-1} + D_l^\top RX_{l-1}), \qquad
    c_l \leftarrow c_l - \eta \textstyle\sum RD_l

Three matrix products a layer forward, six back, none repeated; sums are folded into the products
(``baddbmm`` accumulates in place). All policies of a stack run in the same products.

Buffers hold ``slots`` inner steps and are reused from one outer step to the next. Where they do not
hold the whole loop, the parameters are kept at the start of each segment and the segment is run
again before its reverse sweep: the same gradient, one more forward pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from obdbench.errors import InvalidSettingError
from obdbench.policies.networks import (
    LOG_STD_MAX,
    LOG_STD_MIN,
    LOG_STD_OFFSET,
    Architecture,
    Params,
)

_mask = torch.ops.aten.threshold_backward.grad_input


@dataclass
class ReverseSweep:
    """Buffers and the two sweeps, for stacks of one shape."""

    architecture: Architecture
    stack: int
    pairs: int
    observation_size: int
    action_size: int
    lr: float
    steps: int
    sampled: bool = False
    memory: int = 2 * 1024**3
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    slots: int = field(init=False)

    def __post_init__(self) -> None:
        self.depth = self.architecture.depth
        outputs = self.action_size * (2 if self.sampled else 1)
        sizes = [self.observation_size, *[self.architecture.width] * (self.depth - 1), outputs]
        S, N = self.stack, self.pairs
        element = torch.empty((), dtype=self.dtype).element_size()
        weights = sum(sizes[i] * sizes[i + 1] for i in range(self.depth))
        slot = (
            element
            * S
            * (weights + N * (2 * sum(sizes[1:-1]) + 2 * outputs + 3 * self.action_size))
        )
        self.slots = min(self.steps, int(self.memory // slot))
        if self.slots < math.isqrt(self.steps):
            need = slot * math.isqrt(self.steps) / 2**20
            raise InvalidSettingError(
                f"{self.memory / 2**20:.0f} MiB do not hold the inner loop of {self.steps} steps.",
                f"Allow at least {need:.0f} MiB with --memory, or use fewer pairs or seeds.",
            )
        K = self.slots

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self.dtype, device=self.device)

        self.W = [empty(K + 1, S, sizes[i + 1], sizes[i]) for i in range(self.depth)]
        self.b = [empty(S, 1, sizes[i + 1]) for i in range(self.depth)]
        self.X = [empty(K, S, N, size) for size in sizes[1:-1]]
        self.D = [empty(K, S, N, size) for size in sizes[1:]]
        self.Y = empty(K, S, N, self.action_size)
        self.R = empty(K, S, N, self.action_size)  # y - a
        self.O = empty(K, S, N, outputs) if self.sampled else None  # the head, for fresh noise
        self.E = empty(K, S, N, self.action_size) if self.sampled else None  # d u / d log std
        self.RX = [empty(S, N, size) for size in sizes[1:-1]]
        self.RD = [empty(S, N, size) for size in sizes[1:]]
        self.kappa = 2.0 / (N * self.action_size)

    def learn(self, params: Params, x: Tensor, a: Tensor, noise: Tensor | None) -> Params:
        """Clone for all steps, remembering what :meth:`back` needs, and return the parameters."""
        self.noise = noise
        self._load(params)
        self.marks: list[tuple[int, list[Tensor]]] = []
        for start in range(0, self.steps, self.slots):
            if start:
                self._rewind()
            weights = [w[0].clone() for w in self.W] if self.steps > self.slots else []
            self.marks.append((start, [*weights, *(b.clone() for b in self.b)]))
            self._forward(start, min(start + self.slots, self.steps), x, a)
        return self._unload(params)

    def back(
        self,
        gradient: Params,
        x: Tensor,
        a: Tensor,
        *,
        window: int | None = None,
        reverse_noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Carry the derivative in the final parameters back into states and actions.

        ``window`` stops after that many inner steps. ``reverse_noise`` replaces the noise the
        cloning used, which is what the published code does and makes the gradient inexact.
        """
        rows = self.W[-1].shape[2]
        last = self.depth - 1
        self.V = [gradient[f"w{i}"][:, : self.W[i].shape[2]].clone() for i in range(self.depth)]
        self.c = [gradient[f"b{i}"].unsqueeze(1).clone() for i in range(self.depth)]
        self.c[last] = self.c[last][..., :rows].clone()
        gx, ga = torch.zeros_like(x), torch.zeros_like(a)
        stop = self.steps - (window or self.steps)
        for index in reversed(range(len(self.marks))):
            start, saved = self.marks[index]
            end = min(start + self.slots, self.steps)
            if end <= stop:
                break
            if index < len(self.marks) - 1:
                for target, value in zip([w[0] for w in self.W] + self.b, saved, strict=True):
                    target.copy_(value)
                self._forward(start, end, x, a)
            for step in reversed(range(max(start, stop), end)):
                if reverse_noise is not None:
                    self._redraw(step - start, a, reverse_noise[step])
                self._reverse(step - start, x, gx, ga, last=step == stop)
        return gx, ga

    def _load(self, params: Params) -> None:
        for i in range(self.depth):
            self.W[i][0].copy_(params[f"w{i}"][:, : self.W[i].shape[2]])
            self.b[i].copy_(params[f"b{i}"].unsqueeze(1)[..., : self.b[i].shape[-1]])

    def _rewind(self) -> None:
        for w in self.W:
            w[0].copy_(w[self.slots])

    def _unload(self, params: Params) -> Params:
        used = (self.steps - 1) % self.slots + 1
        learned = {f"w{i}": self.W[i][used].clone() for i in range(self.depth)}
        learned.update({f"b{i}": self.b[i].squeeze(1).clone() for i in range(self.depth)})
        if not self.sampled:  # the log std half of the head never moved
            for name in (f"w{self.depth - 1}", f"b{self.depth - 1}"):
                learned[name] = torch.cat([learned[name], params[name][:, self.action_size :]], 1)
        return learned

    def _forward(self, start: int, end: int, x: Tensor, a: Tensor) -> None:
        last = self.depth - 1
        for step in range(start, end):
            k = step - start
            below = x
            for i in range(last):
                here = self.X[i][k]
                torch.baddbmm(self.b[i], below, self.W[i][k].transpose(1, 2), out=here)
                below = here.relu_()
            out = torch.baddbmm(self.b[last], below, self.W[last][k].transpose(1, 2))
            if self.O is not None:
                self.O[k].copy_(out)
            self._output(k, out, a, None if self.noise is None else self.noise[step])
            self._adjoints(k)
            for i in range(self.depth):
                below, d = (x if i == 0 else self.X[i - 1][k]), self.D[i][k]
                torch.baddbmm(
                    self.W[i][k], d.transpose(1, 2), below, alpha=-self.lr, out=self.W[i][k + 1]
                )
                self.b[i].sub_(d.sum(1, keepdim=True), alpha=self.lr)

    def _output(self, k: int, out: Tensor, a: Tensor, noise: Tensor | None) -> None:
        """Fill Y, R and D_L (and E) of slot ``k`` from the output layer."""
        d = self.D[-1][k]
        if self.E is None or noise is None:
            y = torch.tanh(out, out=self.Y[k])
        else:
            mean, raw = out.chunk(2, -1)
            shifted = raw + LOG_STD_OFFSET
            inside = (shifted >= LOG_STD_MIN) & (shifted <= LOG_STD_MAX)
            std = shifted.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
            y = torch.tanh(mean + std * noise, out=self.Y[k])
            torch.mul(std * noise, inside, out=self.E[k])
        r = torch.sub(y, a, out=self.R[k])
        du = (1 - y * y).mul_(r).mul_(self.kappa)
        d[..., : self.action_size] = du
        if self.E is not None:
            d[..., self.action_size :] = du * self.E[k]

    def _adjoints(self, k: int) -> None:
        """Fill D_{L-1} … D_1 of slot ``k`` from D_L."""
        for i in range(self.depth - 1, 0, -1):
            below = self.D[i - 1][k]
            torch.bmm(self.D[i][k], self.W[i][k], out=below)
            _mask(below, self.X[i - 1][k], 0, grad_input=below)

    def _redraw(self, k: int, a: Tensor, noise: Tensor) -> None:
        """Put fresh noise into a slot whose hidden activations stand."""
        assert self.O is not None
        self._output(k, self.O[k], a, noise)
        self._adjoints(k)

    def _reverse(self, k: int, x: Tensor, gx: Tensor, ga: Tensor, *, last: bool) -> None:
        """One inner step back: into the synset, and (V, c) to the parameters before it."""
        top = self.depth - 1
        A = self.action_size
        below = x
        for i in range(top):
            rx = self.RX[i]
            torch.baddbmm(self.c[i], below, self.V[i].transpose(1, 2), out=rx)
            if i:
                rx.baddbmm_(self.RX[i - 1], self.W[i][k].transpose(1, 2))
            below = self.X[i][k]
            _mask(rx, below, 0, grad_input=rx)
        ro = torch.baddbmm(self.c[top], below, self.V[top].transpose(1, 2))
        if top:
            ro.baddbmm_(self.RX[top - 1], self.W[top][k].transpose(1, 2))

        y, r = self.Y[k], self.R[k]
        slope = 1 - y * y
        rd = self.RD[top]
        if self.E is None:
            ru = ro
            torch.mul(ru * slope, slope - 2 * y * r, out=rd).mul_(self.kappa)
        else:
            e = self.E[k]
            rs = ro[..., A:]
            ru = ro[..., :A] + e * rs
            rdu = (ru * slope).mul_(slope - 2 * y * r).mul_(self.kappa)
            rd[..., :A] = rdu
            inside = e != 0
            rd[..., A:] = rdu * e + self.D[top][k][..., A:] * rs * inside
        ga.add_(slope * ru, alpha=self.lr * self.kappa)

        for i in range(top, -1, -1):
            d, rd = self.D[i][k], self.RD[i]
            if i:
                under = self.RD[i - 1]
                torch.bmm(d, self.V[i], out=under)
                under.baddbmm_(rd, self.W[i][k])
                _mask(under, self.X[i - 1][k], 0, grad_input=under)
            else:
                gx.baddbmm_(d, self.V[0], alpha=-self.lr)
                gx.baddbmm_(rd, self.W[0][k], alpha=-self.lr)
            if last:
                continue
            below = self.X[i - 1][k] if i else x
            self.V[i].baddbmm_(rd.transpose(1, 2), below, alpha=-self.lr)
            if i:
                self.V[i].baddbmm_(d.transpose(1, 2), self.RX[i - 1], alpha=-self.lr)
            self.c[i].sub_(rd.sum(1, keepdim=True), alpha=self.lr)
