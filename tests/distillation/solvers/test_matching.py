"""Gradient matching and loss matching equal a computation by hand on two pairs.

The student is π(s) = w s with w = 0.5, the pairs are (1, 0) and (2, 0.5), so that the student is
off by 0.5 on both. The gradient of cloning in w is mean 2 · 0.5 · (1, 2) = 1.5, and the cloning
loss is 0.25.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.outer_problems import (
    DOUBLE,
    AbsoluteError,
    LinearLoss,
    ScalarStudent,
    TripleDBC,
    outer_problem,
)

from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.solvers.gradient_matching import MATCHES, matched_steps
from obdbench.distillation.solvers.solver import Solver, make_solver
from obdbench.errors import InvalidSettingError
from obdbench.objectives.dbc import DBC
from obdbench.objectives.objective import Objective
from obdbench.registry import architectures

STATES = torch.tensor([[[1.0], [2.0]]], dtype=DOUBLE)
ACTIONS = torch.tensor([[[0.0], [0.5]]], dtype=DOUBLE)


@pytest.fixture(autouse=True)
def _scalar_student() -> Iterator[None]:
    architectures.register("scalar", ScalarStudent())
    yield
    architectures.unregister("scalar")


def solver(name: str, **settings: int) -> Solver:
    own = {"architecture": "scalar", "pairs": 2, "inner_steps": 1, "draws": 1, **settings}
    return make_solver(name, resolve_settings("tiny", {**own, "solver": name}))


def assert_close(actual: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual.flatten(), torch.tensor(expected, dtype=DOUBLE))


@pytest.mark.parametrize("objective", [DBC(), TripleDBC()], ids=lambda o: o.name)
@pytest.mark.parametrize("draws", [1, 3])
def test_gradient_matching_by_hand(objective: Objective, draws: int) -> None:
    """With s = 2 and t = 0.5 the gradient on the data is 2 · 0.5 · 2 = 2, so D = (1.5 − 2)²."""
    problem = outer_problem([[2.0]], [[0.5]], objective)
    gradient = solver("gradient-matching", draws=draws).step(problem, STATES, ACTIONS)
    assert_close(gradient.loss, [0.25])
    assert_close(gradient.states, [-1.0, -1.5])  # 2 (1.5 − 2) (2 w x − a)
    assert_close(gradient.actions, [1.0, 2.0])  # −2 (1.5 − 2) x


@pytest.mark.parametrize("objective", [DBC(), TripleDBC()], ids=lambda o: o.name)
@pytest.mark.parametrize("draws", [1, 3])
def test_loss_matching_by_hand(objective: Objective, draws: int) -> None:
    """With s = 2 and t = 0 the loss on the data is 1, so the mismatch is (0.25 − 1)²."""
    problem = outer_problem([[2.0]], [[0.0]], objective)
    gradient = solver("loss-matching", draws=draws).step(problem, STATES, ACTIONS)
    assert_close(gradient.loss, [0.5625])
    assert_close(gradient.states, [-0.375, -0.375])  # 2 (0.25 − 1) · 0.5 w
    assert_close(gradient.actions, [0.75, 0.75])  # −2 (0.25 − 1) · 0.5


def test_equal_pairs_and_data_match() -> None:
    problem = outer_problem([[1.0]], [[0.7]])
    pairs = torch.ones(1, 2, 1, dtype=DOUBLE), torch.full((1, 2, 1), 0.7, dtype=DOUBLE)
    for name in ("gradient-matching", "loss-matching"):
        gradient = solver(name, inner_steps=20).step(problem, *pairs)
        assert_close(gradient.loss, [0.0])


def test_students_are_matched_along_their_training() -> None:
    """The matched steps lie in equal parts of the training and differ between outer steps."""
    steps = [matched_steps(step, 100) for step in range(20)]
    assert len(set(map(tuple, steps))) > 10
    for chosen in steps:
        assert [step // (100 // MATCHES) for step in chosen] == list(range(MATCHES))
    assert matched_steps(0, 1) == [0]


def test_refused_objectives() -> None:
    problem = outer_problem([[2.0]], [[0.0]], AbsoluteError())
    solver("gradient-matching").step(problem, STATES, ACTIONS)
    with pytest.raises(InvalidSettingError, match="'absolute-error' is not one"):
        solver("loss-matching").step(problem, STATES, ACTIONS)
    problem = outer_problem([[2.0]], [[0.0]], LinearLoss())
    with pytest.raises(InvalidSettingError, match="'linear-loss' does not"):
        solver("gradient-matching").step(problem, STATES, ACTIONS)
