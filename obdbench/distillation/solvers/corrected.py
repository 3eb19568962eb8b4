r"""Infinite-width steps that an exact meta-gradient corrects at intervals.

An exact step costs as much as 25 to 50 infinite-width steps and its gradient depends on the student
that was drawn; an infinite-width step is cheap, but the gradient of real students drifts away from
it. This solver follows

.. math:: g_t = g_\infty(x_t) + \big(g_\text{exact}(x_s) - g_\infty(x_s)\big),
          \qquad s = K \lfloor t / K \rfloor,

with the infinite-width gradient :math:`g_\infty` of step :math:`t`, counted from the end of the
infinite-width phase, and, from the latest of every :math:`K` (``exact_interval``) steps, its
difference to the exact gradient on one batch. The form is that of a control variate, as in
variance-reduced stochastic gradients (Johnson and Zhang, 2013): there the cheap gradient is that of
one sample, here that of the limit of infinite width, by default from the output zero, which has no
noise of drawn students. With ``exact_interval = 1`` every step is exact.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.solvers.exact import Exact
from obdbench.distillation.solvers.infinite_width import InfiniteWidth
from obdbench.distillation.solvers.solver import OuterProblem, ProblemSize, Solver


class Corrected(Solver):
    """Infinite-width gradients plus their latest difference to an exact one."""

    name: ClassVar[str] = "corrected"
    default_settings: ClassVar[dict[str, Any]] = {"kernel_share": 0.0, "kernel_start": "zero"}
    uses_infinite_width: ClassVar[bool] = True

    def __init__(self, settings: DistillSettings, memory: int = DEFAULT_MEMORY_BYTES) -> None:
        super().__init__(settings, memory)
        self.exact = Exact(settings, memory)
        self.infinite_width = InfiniteWidth(settings, memory)

    def step(self, problem: OuterProblem, states: Tensor, actions: Tensor) -> MetaGradient:
        """Take an exact gradient every ``exact_interval`` steps, and correct the others by it."""
        if (problem.step - self.settings.kernel_steps) % self.settings.exact_interval:
            kernel_gradient = self.infinite_width.step(problem, states, actions)
            correction = problem.carried
            return MetaGradient(
                kernel_gradient.loss,
                kernel_gradient.states + correction["correction.x"].to(kernel_gradient.states),
                kernel_gradient.actions + correction["correction.a"].to(kernel_gradient.actions),
            )
        batch = problem.draw_batch(self.settings.batch)
        kernel_gradient = self.infinite_width.step_on(problem, batch, states, actions)
        exact = self.exact.step_on(problem, batch, states, actions)
        problem.carried["correction.x"] = exact.states - kernel_gradient.states
        problem.carried["correction.a"] = exact.actions - kernel_gradient.actions
        return exact

    def required_bytes(self, size: ProblemSize) -> int:
        """Return the larger of both kinds of steps."""
        return max(solver.required_bytes(size) for solver in (self.exact, self.infinite_width))
