r"""The meta-gradient in the limit of infinite width: cloning without a network.

A wide network that is trained by gradient descent moves, to first order, along its tangent kernel
:math:`\Theta` (Jacot et al., 2018, arXiv 1806.07572), which at infinite width does not depend on
the draw of its weights. For the MLPs of :mod:`obdbench.policies.networks` (orthogonal weights of
gain √2, biases at zero, L layers) norms are kept from layer to layer, so that with :math:`n =
|x||x'|`, the cosine :math:`c_0` of the two inputs and the arc-cosine functions of Cho and Saul
(2009)

.. math::
    \kappa_0(c) = 1 - \arccos(c) / \pi, \qquad
    \kappa_1(c) = c\,\kappa_0(c) + \sqrt{1 - c^2} / \pi, \qquad c_l = \kappa_1(c_{l-1}) \\
    \Theta(x, x') = n\,c_{L-1} + 1 +
        \sum_{l=1}^{L-1} (n\,c_{l-1} + 1) \prod_{j=l}^{L-1} \kappa_0(c_{j-1}).

Cloning on the synset (x, a) is then a recursion on the outputs f at the N pairs alone, from the
untrained student's :math:`f_0`, with the cloning loss's own slope :math:`D`, and gives the actions
at any state s:

.. math::
    D_t = \tfrac{2}{N n_a} (\tanh f_t - a)(1 - \tanh^2 f_t), \qquad
    f_{t+1} = f_t - \eta\,\Theta(x, x) D_t, \qquad
    \pi(s) = \tanh\Big(f_0(s) - \eta\,\Theta(s, x) \textstyle\sum_t D_t\Big).

:math:`f_0 = 0` is the mean over draws. A student of finite width starts elsewhere, and where the
pairs do not reach it stays there; with :math:`f_0` a freshly drawn network the synset learns to
undo any such start.

This is the view of kernel inducing points (Nguyen et al., 2021, arXiv 2011.00050), with the exact
number of steps and learning rate in place of ridge regression. An outer step costs two kernel
matrices instead of hundreds of matrix products, and from zero has no noise of drawn policies. It is
an approximation: students have a finite width and do leave the linear regime. The derivative of the
recursion is taken by hand, backwards, and is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from obdbench.distillation.memory_limits import insufficient_memory
from obdbench.distillation.meta_gradient.solver import MEMORY, MetaGradient

ActionLoss = Callable[[Tensor], Tensor]
EDGE = 1e-6
CHUNK = 64


@dataclass(frozen=True)
class InfiniteWidthSolver:
    """An MLP of infinite width and ``depth`` layers, cloned for ``steps`` steps at rate ``lr``."""

    depth: int
    lr: float
    steps: int
    memory: int = MEMORY

    def required_bytes(
        self,
        stack: int,
        pairs: int,
        states: int,
        action_size: int,
        *,
        dtype: torch.dtype,
        on_cpu: bool = True,
    ) -> int:
        """Bytes that a step takes, about; more than the memory is refused.

        Of every policy: Θ at the pairs in five forms and its derivative, Θ(s, x) in five, and the
        recursion, eight numbers an output and step. Once: what is worked on, whole or in chunks.
        What a drawn student does at these states is not counted.
        """
        widest = max(pairs, states)
        rows = widest if not on_cpu else min(widest, CHUNK)
        kept = stack * pairs * (6 * pairs + 5 * states + 8 * self.steps * action_size)
        work = 3 * widest * pairs + (6 * self.depth + 6) * rows * pairs
        need = dtype.itemsize * (kept + work)
        if need > self.memory:
            what = f"the kernel matrices of {pairs} pairs and {states} states"
            raise insufficient_memory(
                self.memory, need, what, "use fewer pairs or seeds, or kernel_share 0"
            )
        return need

    def __call__(
        self,
        x: Tensor,
        a: Tensor,
        states: Tensor,
        loss: ActionLoss,
        first: Callable[[Tensor], Tensor] | None = None,
    ) -> MetaGradient:
        """The objective at (S, B, n_a) actions, and its derivatives in every seed's synset.

        ``first`` gives f_0 at any (S, N, observation) states; without it f_0 is 0.
        """
        own = [self._between(pairs, pairs) for pairs in x]
        theta = torch.stack([kernel.value for kernel in own])
        targets = a.transpose(1, 2).contiguous()
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            at_pairs = None if first is None else first(leaf)
        start = None if at_pairs is None else at_pairs.detach().transpose(1, 2).contiguous()
        ys, slopes = self._clone(theta, targets, start)
        total = slopes.sum(0).mul_(-self.lr).transpose(1, 2)
        far = [self._between(s, pairs) for s, pairs in zip(states, x, strict=True)]
        reach = torch.stack([kernel.value for kernel in far])

        f = reach @ total if first is None else torch.baddbmm(first(states), reach, total)
        actions = torch.tanh(f).requires_grad_()
        with torch.enable_grad():
            losses = loss(actions)
            (pull,) = torch.autograd.grad(losses.sum(), actions)
        pull = pull * (1 - actions.detach().square())

        into = (pull.transpose(1, 2) @ reach).mul_(-self.lr)
        ga, bend, pull_first = self._back(theta, targets, ys, slopes, into)
        gx = torch.empty_like(x)
        for i, pairs in enumerate(x):
            gx[i] = far[i].pull(pull[i] @ total[i].T, states[i], pairs)
            gx[i] += own[i].pull(bend[i] + bend[i].T, pairs, pairs)
        if at_pairs is not None:
            gx += torch.autograd.grad(at_pairs, leaf, pull_first.transpose(1, 2))[0]
        return MetaGradient(losses.detach(), gx, ga.transpose(1, 2))

    def act(self, x: Tensor, a: Tensor, states: Tensor) -> Tensor:
        """The cloned actions on (S, B, observation) states, from f_0 = 0."""
        theta = torch.stack([self._between(pairs, pairs).value for pairs in x])
        reach = [self._between(s, pairs).value for s, pairs in zip(states, x, strict=True)]
        _, slopes = self._clone(theta, a.transpose(1, 2).contiguous())
        return torch.tanh(torch.stack(reach) @ (-self.lr * slopes.sum(0).transpose(1, 2)))

    def _between(self, left: Tensor, right: Tensor) -> TangentKernel:
        return TangentKernel.between(left, right, self.depth)

    def _clone(
        self, theta: Tensor, a: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tanh f and D of every step, (T, S, n_a, N): a kernel is symmetric, and rows are short."""
        kappa = 2.0 / (a.shape[1] * a.shape[2])
        ys, slopes = (a.new_empty(self.steps, *a.shape) for _ in range(2))
        f, one = torch.zeros_like(a) if start is None else start, torch.full_like(a, kappa)
        for step in range(self.steps):
            y = torch.tanh(f, out=ys[step])
            d = torch.sub(y, a, out=slopes[step])
            d.mul_(torch.addcmul(one, y, y, value=-kappa))
            f = torch.baddbmm(f, d, theta, alpha=-self.lr)
        return ys, slopes

    def _back(
        self, theta: Tensor, a: Tensor, ys: Tensor, slopes: Tensor, into: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives in the actions, the kernel and f_0, from that in the sum of all D."""
        kappa = 2.0 / (a.shape[1] * a.shape[2])
        flat = 1 - ys * ys
        bends = flat.mul(kappa).mul_(flat - 2 * ys * (ys - a))  # dD/df
        v, kept = torch.zeros_like(a), torch.empty_like(slopes)
        ga = torch.zeros_like(a)
        for step in reversed(range(self.steps)):
            kept[step] = v
            w = torch.baddbmm(into, v, theta, alpha=-self.lr)
            ga.addcmul_(w, flat[step], value=-kappa)
            v = torch.addcmul(v, w, bends[step])
        later, earlier = (
            t.transpose(0, 1).reshape(a.shape[0], -1, a.shape[2]) for t in (kept, slopes)
        )
        return ga, (later.transpose(1, 2) @ earlier).mul_(-self.lr), v


@dataclass(frozen=True)
class TangentKernel:
    """Θ between two sets of inputs, and its derivatives in the cosine and in n = |x||x'|."""

    cosine: Tensor
    value: Tensor
    by_cosine: Tensor
    by_norms: Tensor

    @classmethod
    def between(cls, left: Tensor, right: Tensor, depth: int) -> TangentKernel:
        """A few rows at a time, so that what is worked on stays in the cache."""
        unit_left, norm_left = _unit(left)
        unit_right, norm_right = _unit(right)
        cosine = unit_left @ unit_right.T
        value, by_cosine, by_norms = (torch.empty_like(cosine) for _ in range(3))
        for start in range(0, len(left), CHUNK if left.device.type == "cpu" else len(left)):
            rows = slice(start, start + CHUNK if left.device.type == "cpu" else None)
            value[rows], by_cosine[rows], by_norms[rows] = _tangent(
                cosine[rows], norm_left[rows, None] * norm_right, depth
            )
        return cls(cosine, value, by_cosine, by_norms)

    def pull(self, upstream: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """The derivative in ``right`` of a function whose derivative in Θ is ``upstream``."""
        unit_left, norm_left = _unit(left)
        unit_right, norm_right = _unit(right)
        turn = upstream * self.by_cosine
        along = (upstream * self.by_norms).T @ norm_left
        along -= torch.einsum("bn,bn->n", turn, self.cosine) / norm_right
        return (turn.T @ unit_left) / norm_right[:, None] + along[:, None] * unit_right


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    norm = x.norm(dim=-1).clamp_min(EDGE)
    return x / norm[:, None], norm


def _tangent(cosine: Tensor, n: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Θ and its derivatives in the cosine and in n."""
    c = cosine.clamp(-1 + EDGE, 1 - EDGE)
    cosines, turns = [c], [torch.ones_like(c)]  # c_l and dc_l/dc_0
    gates, bends = [], []  # κ0(c_l) and its derivative in c_0
    for _ in range(depth - 1):
        root = (1 - c * c).sqrt_()
        gate = torch.acos(c).mul_(-1 / math.pi).add_(1)
        gates.append(gate)
        bends.append(turns[-1] / (math.pi * root))
        c = torch.addcmul(root.mul_(1 / math.pi), c, gate)
        cosines.append(c)
        turns.append(turns[-1] * gate)
    value, by_cosine = (n * c).add_(1), n * turns[-1]
    by_norms = c.clone()
    gain, gain_by_cosine = torch.ones_like(c), torch.zeros_like(c)
    for level in reversed(range(depth - 1)):
        gain_by_cosine = torch.addcmul(gain * bends[level], gain_by_cosine, gates[level])
        gain = gain * gates[level]
        base = (n * cosines[level]).add_(1)
        value.addcmul_(gain, base)
        by_norms.addcmul_(gain, cosines[level])
        by_cosine.addcmul_(gain_by_cosine, base).addcmul_(gain, n * turns[level])
    return value, by_cosine, by_norms
