"""The contract of solvers: the project's own are valid, and violations are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdbench.registry import solvers
from obdbench.validation.objective_contract import validate_objectives

PLUGIN = """
import torch
import obdbench
from obdbench.distillation.meta_gradient.general import MetaGradient


@obdbench.register_solver("faulty")
class Faulty(obdbench.Solver):
    name = "faulty"

    def step(self, problem, states, actions):
        gradient = torch.ones_like(states), torch.ones_like(actions)
        BODY
        return MetaGradient(torch.ones(len(states)), *gradient)
"""


@pytest.mark.parametrize("name", solvers.names())
def test_solvers_of_the_project_are_valid(name: str) -> None:
    (report,) = validate_objectives(name)
    assert report.passed, report.text()
    assert len(report.checks) == 9


@pytest.mark.parametrize(
    ("body", "clause"),
    [
        ("gradient = gradient[::-1]", "a loss and gradients of every seed"),
        ("states += 1", "does not change states"),
        ("gradient = torch.rand_like(states), gradient[1]", "deterministic"),
        ("gradient = gradient[0] * states.mean(), gradient[1]", "other seeds"),
        (
            "self.n = getattr(self, 'n', 0) + 1; gradient = self.n * gradient[0], gradient[1]",
            "bits",
        ),
    ],
)
def test_violations_are_found(body: str, clause: str, tmp_path: Path) -> None:
    path = tmp_path / "faulty.py"
    path.write_text(PLUGIN.replace("BODY", body))
    try:
        (report,) = validate_objectives(str(path))
    finally:
        solvers.unregister("faulty")
    assert not report.passed
    failed = [check for check in report.checks if not check.passed]
    assert any(clause in check.clause for check in failed), report.text()
    assert all("faulty.py" in check.where for check in failed)
