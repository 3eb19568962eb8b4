r"""The weights and targets of an objective that is a weighted squared distance.

Dbc, pbc, av-pbc and sdw have on a batch of B states the form

.. math:: H(\pi) = \frac{1}{B n_a} \sum_{s,j} w_{sj}\,(\pi(s)_j - t_{sj})^2 .

With the gradient g of H in the actions, :math:`g(1) - g(0) = 2 w / (B n_a)` and
:math:`t = -g(0) / (g(1) - g(0))`. The gradient at a third point shows whether H has this form.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from obdbench.distillation.solvers.solver import OuterProblem
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import Batch, Objective

TOLERANCE = 1e-3  # of the largest gradient


@dataclass(frozen=True)
class SquaredDistance:
    """Weights and targets of the actions on a batch, both of shape (seeds, states, actions)."""

    weights: Tensor
    targets: Tensor

    def loss(self, actions: Tensor) -> Tensor:
        """Return the weighted squared distance of every seed's actions."""
        return (self.weights * (actions - self.targets).square()).mean((-2, -1))

    def with_mean_one(self) -> SquaredDistance:
        """Return the same distance with the weights of every seed divided by their mean."""
        return SquaredDistance(
            self.weights / self.weights.mean((-2, -1), keepdim=True), self.targets
        )


def not_squared_distance(solver: str, objective: Objective) -> InvalidSettingError:
    """Make the error for a solver that needs another kind of objective."""
    return InvalidSettingError(
        f"The solver {solver!r} needs an objective that is a weighted squared distance of the "
        f"actions to targets, and {objective.name!r} is not one.",
        "Use another objective, or set solver=full.",
    )


def squared_distance(problem: OuterProblem, batch: Batch, solver: str) -> SquaredDistance:
    """Return the objective on a batch as a weighted squared distance.

    Raises :class:`~obdbench.errors.InvalidSettingError` if it is not of this form.
    """
    zeros = torch.zeros(
        (*batch.states.shape[:2], problem.action_size),
        dtype=problem.dtype,
        device=batch.states.device,
    )
    pattern = zeros.clone()
    pattern.view(-1)[::2] = 0.5
    pattern.view(-1)[1::2] = -0.5
    at_zero, at_one, at_pattern = (
        _action_gradient(problem, batch, actions)
        for actions in (zeros, torch.ones_like(zeros), pattern)
    )
    curvature = at_one - at_zero
    tolerance = TOLERANCE * torch.maximum(at_zero.abs().max(), curvature.abs().max())
    error = (at_zero + curvature * pattern - at_pattern).abs().max()
    if not error <= tolerance or curvature.min() < -tolerance or curvature.max() <= 0:
        raise not_squared_distance(solver, problem.objective)
    has_weight = curvature > 0
    targets = torch.where(
        has_weight, -at_zero / curvature.where(has_weight, at_one.new_ones(())), 0
    )
    entries_per_seed = zeros[0].numel()
    return SquaredDistance(curvature.clamp_min(0) * entries_per_seed / 2, targets)


def mean_weight(problem: OuterProblem, batch: Batch, solver: str) -> Tensor:
    r"""Return the mean weight of every seed, :math:`(H(1) + H(-1) - 2 H(0)) / 2`.

    For other objectives it is half of their mean curvature in the actions; it has to be positive.
    """
    with torch.no_grad():
        at_one, at_minus_one, at_zero = (
            problem.objective.loss(
                batch.states.new_full(
                    (*batch.states.shape[:2], problem.action_size), value, dtype=problem.dtype
                ),
                batch,
            )
            for value in (1.0, -1.0, 0.0)
        )
    weight = (at_one + at_minus_one - 2 * at_zero) / 2
    if not bool((weight > 0).all()):
        raise InvalidSettingError(
            f"The solver {solver!r} needs an objective that grows with the distance of the actions "
            f"from its minimum, and {problem.objective.name!r} does not.",
            "Use the solver 'full'.",
        )
    return weight


def _action_gradient(problem: OuterProblem, batch: Batch, actions: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = actions.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.objective.loss(leaf, batch).sum(), leaf)
    return gradient
