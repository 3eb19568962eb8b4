"""Label solving equals a solution by hand, and its labels are optimal for their states."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.outer_problems import DOUBLE, AbsoluteError, outer_problem
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.solvers import label_solving
from obdbench.distillation.solvers.label_solving import LabelSolving
from obdbench.distillation.solvers.squared_distance import SquaredDistance
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import make_objective
from obdbench.policies.networks import Architecture
from obdbench.registry import architectures


@pytest.fixture(autouse=True)
def _linear_student() -> Iterator[None]:
    """One linear layer, whose tangent kernel is x x' + 1."""
    architectures.register("linear", Architecture("linear", depth=1))
    yield
    architectures.unregister("linear")


def make_label_solver(**settings: Any) -> LabelSolving:
    return LabelSolving(resolve_settings("tiny", {"solver": "label-solving", **settings}))


def test_one_pair_and_one_state_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One inner step from f = 0 moves f(s) by η Θ(s, x) 2 a, and the policy is its tanh.

    With x = 1, s = 2 and η = 0.1, π(s) = tanh(0.1 · 3 · 2 a) equals 0.5 for a = artanh(0.5) / 0.6.
    """
    monkeypatch.setattr(label_solving, "RIDGE", 0.0)
    solver = make_label_solver(architecture="linear", pairs=1, inner_steps=1)
    states = torch.tensor([[[1.0]]], dtype=DOUBLE)
    actions = torch.tensor([[[-0.3]]], dtype=DOUBLE)
    gradient = solver.step(outer_problem([[2.0]], [[0.5]]), states, actions)
    assert float(actions) == pytest.approx(math.atanh(0.5) / 0.6, rel=1e-4)
    assert float(gradient.loss) < 1e-8
    assert not gradient.actions.any()


def test_ridge_regression_of_one_pair_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tanh is linear, (0.6 a − t)² + ρ a² has its minimum at a = 0.6 t / (0.36 + ρ)."""
    monkeypatch.setattr(label_solving, "RIDGE", 0.14)
    solver = make_label_solver(architecture="linear", pairs=1, inner_steps=1)
    states, actions = torch.tensor([[[1.0]]], dtype=DOUBLE), torch.zeros(1, 1, 1, dtype=DOUBLE)
    solver.step(outer_problem([[2.0]], [[1e-3]]), states, actions)
    assert float(actions) == pytest.approx(0.6e-3 / 0.5, rel=1e-4)


@pytest.mark.parametrize("inner_steps", [1, 7])
def test_solved_labels_have_no_gradient(inner_steps: int) -> None:
    """The gradient of H plus that of the ridge vanishes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=DOUBLE)

    solver = make_label_solver(architecture="mlp3", pairs=4, inner_steps=inner_steps)
    x, states, labels = normal(2, 4, 3), normal(2, 12, 3), 0.1 * normal(2, 4, 2)
    goal = SquaredDistance(normal(2, 12, 2).square(), 0.2 * torch.tanh(normal(2, 12, 2)))

    def label_gradient(a: torch.Tensor) -> torch.Tensor:
        mean_weight = goal.weights.mean((1, 2), keepdim=True)
        ridge = 2 * label_solving.RIDGE * mean_weight * a / a[0].numel()
        return (
            (solver.student.meta_gradient(x, a, states, goal.loss).actions + ridge)
            .abs()
            .amax((1, 2))
        )

    solved = solver.solve_labels(x, labels, states, goal, iterations=60)
    assert (label_gradient(solved) < 1e-6 * label_gradient(labels)).all()


def test_it_lowers_the_objective_more_than_as_many_infinite_width_steps() -> None:
    dataset = make_toy_dataset(400)
    teacher, objective = make_toy_teacher(dataset), make_objective("av-pbc")
    last_losses = []
    for solver in ("infinite-width", "label-solving"):
        own = {"steps": 30, "pairs": 8, "batch": 256, "kernel_batch": 128, "outer_lr": 0.03}
        settings = resolve_settings("tiny", {**own, "solver": solver})
        *_, point = distill_points(dataset, teacher, objective, settings, [0])
        last_losses.append(point.losses[0][-1][1])
    assert last_losses[1] < 0.9 * last_losses[0]


def test_an_objective_that_is_no_squared_distance_is_refused() -> None:
    solver = make_label_solver(architecture="linear", pairs=1)
    pairs = torch.ones(1, 1, 1, dtype=DOUBLE), torch.ones(1, 1, 1, dtype=DOUBLE)
    with pytest.raises(InvalidSettingError, match="'absolute-error' is not one"):
        solver.step(outer_problem([[2.0]], [[0.5]], AbsoluteError()), *pairs)


@pytest.mark.parametrize(
    "settings", [{"inner_optimizer": "adam"}, {"noise": "exact"}, {"kernel_start": "drawn"}]
)
def test_settings_that_it_lacks_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(InvalidSettingError, match=next(iter(settings))):
        make_label_solver(**settings)
