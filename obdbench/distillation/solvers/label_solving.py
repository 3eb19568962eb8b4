r"""Label solving: the best labels for given states at infinite width; the states follow a gradient.

At infinite width the cloned policy :math:`\pi(s; x, a)` is a function of the pairs
(:mod:`obdbench.distillation.infinite_width.student`). With the objective as a weighted squared
distance to targets t (:mod:`obdbench.distillation.solvers.squared_distance`), the labels are

.. math:: a^*(x) = \arg\min_a H(x, a) + \rho\, \bar w\, \lVert a \rVert^2, \qquad
          H(x, a) = \mathbb{E}_s\; w(s)\, \lVert \pi(s; x, a) - t(s) \rVert^2,

with the mean weight :math:`\bar w` and norms that are means over pairs and coordinates, and the
states follow the gradient of this minimum in x, which is :math:`\partial H / \partial x`, because
the gradient in the labels vanishes at the solved labels. Without the ridge :math:`\rho` labels
become several times as large as actions, and students of finite width leave the limit.

The labels are solved by Gauss-Newton. With :math:`D_t` and :math:`f_t` of the recursion of T inner
steps at rate :math:`\eta`, and :math:`\kappa = 2 / (N n_a)`, the derivative M of
:math:`\sum_t D_t` in the labels of one action coordinate and the Jacobian J of the policy are

.. math::
    M_{t+1} = M_t - \eta\, \mathrm{diag}(\partial D_t / \partial f_t)\, \Theta(x, x)\, M_t
              - \kappa\, \mathrm{diag}(1 - \tanh^2 f_t), \qquad M_0 = 0, \\
    J = -\eta\, \mathrm{diag}(1 - \pi^2)\, \Theta(s, x)\, M_T, \qquad
    \delta = (J^\top W J + (r + \lambda) I)^{-1} \big(J^\top W (t - \pi) - r\, a\big),

where :math:`r = \rho\, \bar w\, B / N` for B states, and the damping :math:`\lambda` is a fraction
of the mean diagonal of :math:`J^\top W J`. The step length is that of :data:`STEP_LENGTHS` with the
lowest value of what is minimized.

Source: Label Solve and Kernel Inducing Points, Nguyen, Chen and Lee, 2021, arXiv 2011.00050. There
the policy is a kernel ridge regression, linear in the labels, so that :math:`a^*` is a
pseudo-inverse, and the states (and labels) of KIP follow gradients. Differences: the exact number
of gradient steps replaces ridge regression; the output is a tanh, so that one solution becomes
several Gauss-Newton steps; the ridge is on the labels; states and weights are those of the
objective; the labels are solved in every tenth outer step and are fixed between them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from obdbench.distillation.memory_limits import insufficient_memory
from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.solvers.infinite_width import InfiniteWidth
from obdbench.distillation.solvers.solver import OuterProblem, ProblemSize
from obdbench.distillation.solvers.squared_distance import SquaredDistance, squared_distance

SOLVE_INTERVAL = 10  # outer steps
FIRST_ITERATIONS = 4  # Gauss-Newton steps in the first outer step; later ones take one
RIDGE = 3e-3  # ρ
DAMPING = 0.01  # λ as a fraction of the mean diagonal
STEP_LENGTHS = (1.0, 0.5, 0.25, 0.0)


class LabelSolving(InfiniteWidth):
    """Labels solved at infinite width for given states; the states follow a gradient."""

    name: ClassVar[str] = "label-solving"
    relative_cost: ClassVar[float] = 0.06
    needs_squared_distance: ClassVar[bool] = True
    default_settings: ClassVar[dict[str, Any]] = {"kernel_share": 0.0, "kernel_start": "zero"}
    required_settings: ClassVar[dict[str, Any]] = {
        "inner_optimizer": "sgd",
        "noise": "none",
        "kernel_start": "zero",
    }

    def step(self, problem: OuterProblem, states: Tensor, actions: Tensor) -> MetaGradient:
        """Solve the labels if they are due, and return the gradient in the states."""
        elapsed = problem.step - self.settings.kernel_steps
        if elapsed % SOLVE_INTERVAL == 0:
            batch = problem.draw_batch(self.settings.batch)
            goal = squared_distance(problem, batch, self.name)
            iterations = FIRST_ITERATIONS if elapsed == 0 else 1
            at = batch.states.to(problem.dtype)
            actions.copy_(self.solve_labels(states, actions, at, goal, iterations))
        gradient = super().step(problem, states, actions)
        return gradient._replace(actions=torch.zeros_like(actions))

    def solve_labels(
        self, x: Tensor, a: Tensor, states: Tensor, goal: SquaredDistance, iterations: int
    ) -> Tensor:
        """Return labels that lower ``goal`` of the policy on ``states``, from the labels ``a``."""
        theta, theta_states = self.student.kernels(x, states)
        for _ in range(iterations):
            change = self._gauss_newton_step(theta, theta_states, a, goal)
            candidates = [a + length * change for length in STEP_LENGTHS]
            losses = torch.stack([self._loss(theta, theta_states, c, goal) for c in candidates])
            best = losses.nan_to_num(nan=torch.inf).argmin(0)
            a = torch.stack(candidates)[best, torch.arange(len(a), device=a.device)]
        return a

    def _loss(
        self, theta: Tensor, theta_states: Tensor, a: Tensor, goal: SquaredDistance
    ) -> Tensor:
        _, slopes = self.student.clone(theta, a.transpose(1, 2).contiguous())
        ridge = RIDGE * goal.weights.mean((1, 2)) * a.square().mean((1, 2))
        return goal.loss(self.student.policy(theta_states, slopes)) + ridge

    def _gauss_newton_step(
        self, theta: Tensor, theta_states: Tensor, a: Tensor, goal: SquaredDistance
    ) -> Tensor:
        """Return the change δ of the labels; tensors below are (seeds, coordinates, …)."""
        labels = a.transpose(1, 2).contiguous()
        outputs, slopes = self.student.clone(theta, labels)
        policy = self.student.policy(theta_states, slopes)
        derivative = self._slope_derivative(theta, labels, outputs)
        jacobian = (theta_states * -self.student.lr).unsqueeze(1) @ derivative
        jacobian *= (1 - policy.square()).transpose(1, 2).unsqueeze(-1)
        weighted = jacobian * goal.weights.transpose(1, 2).unsqueeze(-1)
        hessian = weighted.transpose(-2, -1) @ jacobian
        missed = (goal.targets - policy).transpose(1, 2).unsqueeze(-1)
        states_per_pair = goal.weights.shape[1] / a.shape[1]
        ridge = RIDGE * states_per_pair * goal.weights.mean((1, 2))[:, None, None]
        right_side = weighted.transpose(-2, -1) @ missed - (ridge * labels).unsqueeze(-1)
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        damping = DAMPING * diagonal.mean(-1, keepdim=True)
        diagonal += damping.clamp_min(torch.finfo(a.dtype).tiny) + ridge
        change: Tensor = torch.linalg.solve(hessian, right_side)
        return change.squeeze(-1).transpose(1, 2)

    def _slope_derivative(self, theta: Tensor, labels: Tensor, outputs: Tensor) -> Tensor:
        """Return M, the derivative of the sum of D over all inner steps in the labels."""
        stack, coordinates, pairs = labels.shape
        kappa = 2.0 / (coordinates * pairs)
        derivative = labels.new_zeros(stack, coordinates, pairs, pairs)
        diagonal = derivative.diagonal(dim1=-2, dim2=-1)
        for y in outputs:
            tanh_slope = 1 - y * y
            curvature = kappa * tanh_slope * (tanh_slope - 2 * y * (y - labels))  # dD/df
            product = theta.unsqueeze(1) @ derivative
            derivative.addcmul_(product, curvature.unsqueeze(-1), value=-self.student.lr)
            diagonal -= kappa * tanh_slope
        return derivative

    def required_bytes(self, size: ProblemSize) -> int:
        """Return the size of an infinite-width step, Jacobians and Hessians."""
        pairs, batch = self.settings.pairs, self.settings.batch
        rows = size.action_size * (2 * batch + 4 * pairs) + 5 * batch
        required = super().required_bytes(size) + size.dtype.itemsize * size.seeds * pairs * rows
        if required > self.memory:
            contents = f"the label solution of {pairs} pairs on {batch} states"
            raise insufficient_memory(self.memory, required, contents, "use fewer pairs or seeds")
        return required
