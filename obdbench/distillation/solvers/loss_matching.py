r"""Loss matching: random students have the same loss on the synset and on the data.

For random students :math:`\theta_1, \dots, \theta_k`, none of which is trained, the cloning loss
:math:`\ell` on the pairs and the mean weight :math:`\bar w` of the objective H on the batch,

.. math::
    \min_{x,a}\; \frac{1}{k} \sum_{i=1}^{k}
    \big( \ell(\theta_i; x, a) - H(\pi_{\theta_i}) / \bar w \big)^2 .

Source: Gupta, Saket and Raghuveer, 2025, arXiv 2512.00536, who match the squared errors of a fixed
set of random linear regressors, of order :math:`d^2` in the number d of features, without any model
training, and for offline RL the Bellman errors of random linear action-value functions.
Differences: pairs have no rewards and next states, so the loss is that of cloning; on the data it
is the objective, divided by its mean weight to have the scale of the cloning loss; the regressors
are untrained students of the settings' architecture; every outer step draws new ones, which makes
the gradient an unbiased estimate for infinitely many.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.solvers.solver import (
    OuterProblem,
    ProblemSize,
    Solver,
    mean_over_draws,
)
from obdbench.distillation.solvers.squared_distance import SquaredDistance, squared_distance


class LossMatching(Solver):
    """Matches the losses of random students on the synset and on the data."""

    name: ClassVar[str] = "loss-matching"
    relative_cost: ClassVar[float] = 0.015
    needs_squared_distance: ClassVar[bool] = True
    default_settings: ClassVar[dict[str, Any]] = {"kernel_share": 0.0, "draws": 16}
    required_settings: ClassVar[dict[str, Any]] = {"noise": "none"}

    def step(self, problem: OuterProblem, states: Tensor, actions: Tensor) -> MetaGradient:
        """Draw ``draws`` random students per seed and compare their losses."""
        draws, architecture = self.settings.draws, self.cloning.architecture
        params = problem.draw_students(architecture, draws)
        batch = problem.draw_batch(self.settings.batch)
        goal = squared_distance(problem, batch, self.name).with_mean_one()
        goal = SquaredDistance(
            goal.weights.repeat_interleave(draws, 0), goal.targets.repeat_interleave(draws, 0)
        )
        data_states = batch.states.to(problem.dtype).repeat_interleave(draws, 0)
        with torch.no_grad():
            data_loss = goal.loss(architecture.act(params, data_states))
        x, a = (v.repeat_interleave(draws, 0).requires_grad_() for v in (states, actions))
        with torch.enable_grad():
            synset_loss = (architecture.act(params, x) - a).square().mean((-2, -1))
            mismatch = (synset_loss - data_loss).square()
            gx, ga = torch.autograd.grad(mismatch.sum(), (x, a))
        return mean_over_draws(MetaGradient(mismatch.detach(), gx, ga), draws)

    def required_bytes(self, size: ProblemSize) -> int:
        """Return the size of the students' activations on the batch and on the pairs."""
        rows = self.settings.batch + self.settings.pairs
        return self.activation_bytes(size.seeds * self.settings.draws, rows, size.dtype)
