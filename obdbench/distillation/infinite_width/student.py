r"""The meta-gradient in the limit of infinite width, where cloning needs no network.

A wide network trained by gradient descent moves, to first order, along its tangent kernel
:math:`\Theta` (:mod:`obdbench.distillation.infinite_width.tangent_kernel`), which at infinite width
does not depend on the draw of its weights. Cloning on the synset (x, a) of N pairs is then a
recursion on the outputs f at the pairs, which starts at the output :math:`f_0` of the untrained
student. With :math:`D` the gradient of the cloning loss, the actions at any state s are

.. math::
    D_t = \tfrac{2}{N n_a} (\tanh f_t - a)(1 - \tanh^2 f_t), \qquad
    f_{t+1} = f_t - \eta\,\Theta(x, x) D_t, \qquad
    \pi(s) = \tanh\Big(f_0(s) - \eta\,\Theta(s, x) \textstyle\sum_t D_t\Big).

:math:`f_0 = 0` is the mean over draws of the weights. A student of finite width starts elsewhere,
and far from the pairs it stays there; if :math:`f_0` is a freshly drawn network, the synset learns
to correct any such start.

Kernel inducing points (Nguyen et al., 2021, arXiv 2011.00050) use the same limit with ridge
regression in place of the exact number of steps and learning rate. An outer step costs two kernel
matrices instead of hundreds of matrix products and, if :math:`f_0 = 0`, has no noise from drawn
policies. It is an approximation: students of finite width leave the linear regime. The derivative
of the recursion is derived by hand, in reverse, and is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from obdbench.distillation.infinite_width.tangent_kernel import CPU_ROWS_PER_CHUNK, TangentKernel
from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES, insufficient_memory
from obdbench.distillation.meta_gradient.general import MetaGradient

ActionLoss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class InfiniteWidthStudent:
    """An MLP of infinite width that is cloned for ``steps`` steps at rate ``lr``."""

    depth: int
    lr: float
    steps: int
    memory: int = DEFAULT_MEMORY_BYTES

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
        """Return the approximate memory of a step.

        Every policy keeps Θ between the pairs in five forms and its gradient, Θ between states and
        pairs in five forms, and eight numbers per output and step of the recursion. Intermediate
        results are counted once, for the whole kernel or for one chunk. The activations of a drawn
        student are not counted. Raises :class:`~obdbench.errors.InvalidSettingError` if the memory
        is exceeded.
        """
        widest = max(pairs, states)
        rows = widest if not on_cpu else min(widest, CPU_ROWS_PER_CHUNK)
        kept = stack * pairs * (6 * pairs + 5 * states + 8 * self.steps * action_size)
        intermediate = 3 * widest * pairs + (6 * self.depth + 6) * rows * pairs
        required = dtype.itemsize * (kept + intermediate)
        if required > self.memory:
            contents = f"the kernel matrices of {pairs} pairs and {states} states"
            alternative = "use fewer pairs or seeds, or kernel_share 0"
            raise insufficient_memory(self.memory, required, contents, alternative)
        return required

    def meta_gradient(
        self,
        x: Tensor,
        a: Tensor,
        states: Tensor,
        loss: ActionLoss,
        initial_output: Callable[[Tensor], Tensor] | None = None,
    ) -> MetaGradient:
        """Return ``loss`` of the cloned actions on ``states``, and its gradient in the synsets.

        ``x``, ``a`` and ``states`` are stacked by seed. ``initial_output`` gives f_0 at stacked
        states; without it f_0 is 0.
        """
        pair_kernels = [TangentKernel.between(pairs, pairs, self.depth) for pairs in x]
        theta = torch.stack([kernel.value for kernel in pair_kernels])
        targets = a.transpose(1, 2).contiguous()
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            f0_at_pairs = None if initial_output is None else initial_output(leaf)
        f0 = None if f0_at_pairs is None else f0_at_pairs.detach().transpose(1, 2).contiguous()
        outputs, slopes = self.clone(theta, targets, f0)
        update = slopes.sum(0).mul_(-self.lr).transpose(1, 2)
        state_kernels = self._kernels_to_pairs(states, x)
        theta_states = torch.stack([kernel.value for kernel in state_kernels])

        f = (
            theta_states @ update
            if initial_output is None
            else torch.baddbmm(initial_output(states), theta_states, update)
        )
        actions = torch.tanh(f).requires_grad_()
        with torch.enable_grad():
            losses = loss(actions)
            (f_gradient,) = torch.autograd.grad(losses.sum(), actions)
        f_gradient = f_gradient * (1 - actions.detach().square())

        slope_gradient = (f_gradient.transpose(1, 2) @ theta_states).mul_(-self.lr)
        ga, theta_gradient, f0_gradient = self._reverse(
            theta, targets, outputs, slopes, slope_gradient
        )
        gx = torch.empty_like(x)
        for i, pairs in enumerate(x):
            gx[i] = state_kernels[i].vjp(f_gradient[i] @ update[i].T, states[i], pairs)
            gx[i] += pair_kernels[i].vjp(theta_gradient[i] + theta_gradient[i].T, pairs, pairs)
        if f0_at_pairs is not None:
            gx += torch.autograd.grad(f0_at_pairs, leaf, f0_gradient.transpose(1, 2))[0]
        return MetaGradient(losses.detach(), gx, ga.transpose(1, 2))

    def act(
        self,
        x: Tensor,
        a: Tensor,
        states: Tensor,
        initial_output: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the cloned actions on stacked states; ``initial_output`` as in a step."""
        theta, theta_states = self.kernels(x, states)
        f0 = None if initial_output is None else initial_output(x).transpose(1, 2).contiguous()
        _, slopes = self.clone(theta, a.transpose(1, 2).contiguous(), f0)
        return self.policy(
            theta_states, slopes, None if initial_output is None else initial_output(states)
        )

    def kernels(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return Θ(x, x) and Θ(s, x), stacked by seed."""
        theta = torch.stack([TangentKernel.between(pairs, pairs, self.depth).value for pairs in x])
        return theta, torch.stack([kernel.value for kernel in self._kernels_to_pairs(states, x)])

    def policy(self, theta_states: Tensor, slopes: Tensor, f0: Tensor | None = None) -> Tensor:
        """Return π(s) for Θ(s, x), D of every step and f_0(s)."""
        update = slopes.sum(0).mul_(-self.lr).transpose(1, 2)
        f = theta_states @ update if f0 is None else torch.baddbmm(f0, theta_states, update)
        return torch.tanh(f)

    def _kernels_to_pairs(self, states: Tensor, x: Tensor) -> list[TangentKernel]:
        return [
            TangentKernel.between(s, pairs, self.depth) for s, pairs in zip(states, x, strict=True)
        ]

    def clone(self, theta: Tensor, a: Tensor, f0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return tanh f and D of every step, with shape (steps, stack, n_a, N).

        ``theta`` is the kernel between the pairs and ``a`` their labels, (stack, n_a, N).
        The kernel is symmetric, so the recursion multiplies it from the right by short rows.
        """
        kappa = 2.0 / (a.shape[1] * a.shape[2])
        outputs, slopes = (a.new_empty(self.steps, *a.shape) for _ in range(2))
        f, kappas = torch.zeros_like(a) if f0 is None else f0, torch.full_like(a, kappa)
        for step in range(self.steps):
            y = torch.tanh(f, out=outputs[step])
            d = torch.sub(y, a, out=slopes[step])
            d.mul_(torch.addcmul(kappas, y, y, value=-kappa))
            f = torch.baddbmm(f, d, theta, alpha=-self.lr)
        return outputs, slopes

    def _reverse(
        self, theta: Tensor, a: Tensor, outputs: Tensor, slopes: Tensor, slope_gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients in the actions, the kernel and f_0, given that in the sum of D."""
        kappa = 2.0 / (a.shape[1] * a.shape[2])
        tanh_slopes = 1 - outputs * outputs
        curvatures = tanh_slopes.mul(kappa).mul_(  # dD/df
            tanh_slopes - 2 * outputs * (outputs - a)
        )
        f_gradient, f_gradients = torch.zeros_like(a), torch.empty_like(slopes)
        ga = torch.zeros_like(a)
        for step in reversed(range(self.steps)):
            f_gradients[step] = f_gradient
            d_gradient = torch.baddbmm(slope_gradient, f_gradient, theta, alpha=-self.lr)
            ga.addcmul_(d_gradient, tanh_slopes[step], value=-kappa)
            f_gradient = torch.addcmul(f_gradient, d_gradient, curvatures[step])
        after, before = (
            t.transpose(0, 1).reshape(a.shape[0], -1, a.shape[2]) for t in (f_gradients, slopes)
        )
        return ga, (after.transpose(1, 2) @ before).mul_(-self.lr), f_gradient
