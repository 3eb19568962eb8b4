r"""Gradient matching: cloning on the synset and on the data change students in the same direction.

For a freshly drawn student that is cloned on the synset, with parameters :math:`\theta_t` after t
inner steps, and the mean weight :math:`\bar w` of the objective H on the batch,

.. math::
    \min_{x,a}\; \mathbb{E}_{\theta_0}\, \mathbb{E}_t\;
    \big\lVert \nabla_\theta \ell(\theta_t; x, a)
    - \nabla_\theta H(\pi_{\theta_t}) / \bar w \big\rVert^2, \qquad
    \theta_{t+1} = \mathrm{opt}\big(\theta_t, \nabla_\theta \ell(\theta_t; x, a)\big) .

The parameters are constants of the gradient in the synset: no step of cloning is differentiated.

Source: Light, Liu and Hu, 2024, arXiv 2407.20299, who match the squared Euclidean distance of the
gradients of behavioral cloning for discrete actions, after Zhao, Mopuri and Bilen, 2021, arXiv
2006.05929. Differences: the loss on the data is the objective, divided by its mean weight to have
the scale of the cloning loss; actions are continuous, so that there is one distance instead of one
per action; actions are optimized as well as states; every outer step draws a new student, clones it
on the current synset and matches it at :data:`MATCHES` random inner steps, one in each of as many
equal parts of its training, where the source updates the synset while one student is trained.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from obdbench.distillation.batch_sampler import repeat_batch
from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.random_streams import MATCH_STREAM
from obdbench.distillation.solvers.solver import (
    OuterProblem,
    ProblemSize,
    Solver,
    mean_over_draws,
)
from obdbench.distillation.solvers.squared_distance import mean_weight
from obdbench.objectives.objective import Batch
from obdbench.policies.cloning import clone_loss
from obdbench.policies.networks import Params

MATCHES = 5


class GradientMatching(Solver):
    """Matches the gradients of cloning on the synset and of the objective."""

    name: ClassVar[str] = "gradient-matching"
    relative_cost: ClassVar[float] = 0.5
    default_settings: ClassVar[dict[str, Any]] = {"kernel_share": 0.0}
    required_settings: ClassVar[dict[str, Any]] = {"noise": "none"}

    def step(self, problem: OuterProblem, states: Tensor, actions: Tensor) -> MetaGradient:
        """Clone ``draws`` students per seed and match them along their training."""
        cloning, draws = self.cloning, self.settings.draws
        params = problem.draw_students(cloning.architecture, draws)
        batch = problem.draw_batch(self.settings.batch)
        scale = mean_weight(problem, batch, self.name).repeat_interleave(draws, 0)
        batch = repeat_batch(batch, draws)
        x, a = (v.repeat_interleave(draws, 0).requires_grad_() for v in (states, actions))
        optimizer_state = cloning.optimizer.init(params)
        matched = matched_steps(problem.step, cloning.steps)
        matches = []
        for step in range(matched[-1] + 1):
            leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
            with torch.enable_grad():
                loss = clone_loss(cloning.architecture, leaves, x, a)
                gradient = torch.autograd.grad(
                    loss, list(leaves.values()), create_graph=step in matched
                )
            if step in matched:
                target = self._objective_gradient(problem, leaves, batch, scale)
                matches.append(match_gradient(list(gradient), target, x, a))
            gradients = {name: value.detach() for name, value in zip(leaves, gradient, strict=True)}
            with torch.no_grad():
                params, optimizer_state = cloning.optimizer.update(
                    leaves, gradients, optimizer_state, cloning.lr
                )
        means = (torch.stack(parts).mean(0) for parts in zip(*matches, strict=True))
        return mean_over_draws(MetaGradient(*means), draws)

    def _objective_gradient(
        self, problem: OuterProblem, leaves: Params, batch: Batch, scale: Tensor
    ) -> list[Tensor]:
        """Return the gradient of H over its mean weight in the students' parameters."""
        with torch.enable_grad():
            actions = self.cloning.architecture.act(leaves, batch.states.to(problem.dtype))
            loss = problem.objective.loss(actions, batch) / scale
            return list(torch.autograd.grad(loss.sum(), list(leaves.values())))

    def required_bytes(self, size: ProblemSize) -> int:
        """Return the size of the students' activations on the batch and on the pairs."""
        rows = self.settings.batch + 3 * self.settings.pairs
        return self.activation_bytes(size.seeds * self.settings.draws, rows, size.dtype)


def matched_steps(step: int, inner_steps: int) -> list[int]:
    """Return the inner steps at which outer step ``step`` matches, the same for all seeds."""
    offset = np.random.default_rng([step, MATCH_STREAM]).random()
    return sorted({int((part + offset) * inner_steps / MATCHES) for part in range(MATCHES)})


def match_gradient(
    gradient: list[Tensor], target: list[Tensor], x: Tensor, a: Tensor
) -> MetaGradient:
    """Return the squared distance of two gradients per student, and its gradient in the pairs."""
    with torch.enable_grad():
        distance = torch.stack(
            [(g - t).square().flatten(1).sum(1) for g, t in zip(gradient, target, strict=True)]
        ).sum(0)
        gx, ga = torch.autograd.grad(distance.sum(), (x, a))
    return MetaGradient(distance.detach(), gx, ga)
