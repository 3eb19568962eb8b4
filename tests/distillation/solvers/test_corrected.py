"""Corrected infinite-width steps: the formula from its two solvers, on toy data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.outer_problems import outer_problem

from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.solvers.solver import make_solver
from obdbench.errors import InvalidSettingError

STATES = torch.tensor([[[0.3], [-0.8], [0.6]]], dtype=torch.float64)
ACTIONS = torch.tensor([[[0.1], [0.4], [-0.5]]], dtype=torch.float64)
DATA = ([[0.5], [-0.2]], [[0.3], [-0.4]])
SETTINGS = {"pairs": 3, "inner_steps": 4, "architecture": "mlp2", "width": 8, "batch": 2}


def settings(solver: str, **values: int) -> DistillSettings:
    return resolve_settings("tiny", {**SETTINGS, "kernel_batch": 2, **values, "solver": solver})


def test_a_step_adds_the_latest_difference_between_exact_and_infinite_width():
    """All rows of the data are equal, so that every generator draws the same batch."""
    data = ([[0.5]], [[0.3]])
    moved = STATES + 0.1
    solver = make_solver("corrected", settings("corrected", exact_interval=3))
    problem = outer_problem(*data)
    first = solver.step(problem, STATES, ACTIONS)
    exact = make_solver("full", settings("full")).step(outer_problem(*data), STATES, ACTIONS)
    infinite_width = make_solver("infinite-width", settings("infinite-width"))
    before, after = (infinite_width.step(outer_problem(*data), x, ACTIONS) for x in (STATES, moved))
    torch.testing.assert_close(first.states, exact.states)
    second = solver.step(replace(problem, step=1), moved, ACTIONS)
    torch.testing.assert_close(second.states, after.states + exact.states - before.states)
    torch.testing.assert_close(second.actions, after.actions + exact.actions - before.actions)
    torch.testing.assert_close(second.loss, after.loss)


def test_with_the_interval_1_every_step_is_exact():
    solver = make_solver("corrected", settings("corrected", exact_interval=1))
    exact = make_solver("full", settings("full"))
    for step in (0, 1):
        corrected = solver.step(replace(outer_problem(*DATA), step=step), STATES, ACTIONS)
        expected = exact.step(replace(outer_problem(*DATA), step=step), STATES, ACTIONS)
        torch.testing.assert_close(corrected.states, expected.states)
        torch.testing.assert_close(corrected.loss, expected.loss)


def test_the_limit_needs_the_inner_optimizer_sgd():
    with pytest.raises(InvalidSettingError, match="sgd"):
        settings("corrected", inner_optimizer="adam")  # type: ignore[arg-type]


def test_the_first_step_after_an_infinite_width_phase_is_exact():
    values = settings("corrected", exact_interval=5, steps=8)
    solver = make_solver("corrected", values.model_copy(update={"kernel_share": 0.5}))
    at_start = replace(outer_problem(*DATA), step=4)
    expected = make_solver("full", settings("full")).step(
        replace(outer_problem(*DATA), step=4), STATES, ACTIONS
    )
    torch.testing.assert_close(solver.step(at_start, STATES, ACTIONS).states, expected.states)
