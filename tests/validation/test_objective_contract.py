"""Valid objectives pass the contract checks; each kind of violation is reported."""

import pytest

from obdbench.errors import InvalidSettingError, UnknownNameError
from obdbench.validation.objective_contract import validate_objectives

HEAD = """
import numpy as np
import torch
from obdbench.objectives.objective import Objective, float_tensor

class Mine(Objective):
    name = "validated"
    uses_teacher = False
    def __init__(self, *, power: float = 2.0):
        self.power = power
    def prepare(self, dataset, teacher, rng):
        return {"weight": float_tensor(1 + rng.random(len(dataset)))}
    def loss(self, actions, batch):
        error = (actions - batch.actions).abs() ** self.power
        return (batch.weight * error.mean(-1)).mean(-1)
"""


@pytest.fixture
def check(tmp_path):
    from obdbench.registry import objectives

    def run(old="", new=""):
        assert old in HEAD
        path = tmp_path / "mine.py"
        path.write_text(HEAD.replace(old, new) if old else HEAD)
        (report,) = validate_objectives(str(path))
        return report, path

    yield run
    if "validated" in objectives:
        objectives.unregister("validated")


def test_valid_objective_passes(check):
    report, _ = check()
    assert report.passed, report.text()
    assert "valid" in report.text()
    assert len(report.checks) == 11


@pytest.mark.parametrize(
    ("old", "new", "clause", "detail"),
    [
        (".mean(-1)).mean(-1)", ".mean(-1)).mean()", "one finite", "shape"),
        ("actions - batch", "actions.detach() - batch", "gradient", "does not depend"),
        ("error = (actions", "error = (actions * 0", "gradient", "zero"),
        ("return (batch", "error = error / error.sum()\n        return (batch", "depend", "alone"),
        ("error = (", "error = (torch.randn(1) + ", "deterministic", "noise_columns"),
        ("error = (", "error = (torch.randn(1) * 0 + ", "does not change", "global random state"),
        ("rng.random(", "np.random.random(", "prepare is", "differs"),
        ("error = (", "actions.data.mul_(0.5)\n        error = (", "does not change", "in place"),
        ("self.power = power", "self.power = object()", "JSON", "not serializable"),
        ("self.power = power", "self.power = power + 1", "JSON", "created with its settings"),
        ("rng.random(len(dataset))", "rng.random(3)", "prepare gives", "rows"),
        ("float_tensor(1 + rng", "np.asarray(1 + rng", "prepare gives", "ndarray as the column"),
        (
            "rng.random(len(dataset))",
            "np.full(len(dataset), np.nan)",
            "prepare gives",
            "not finite",
        ),
        ("float_tensor(1 +", "(1 +", "prepare gives", "tensors"),
        (
            "return (batch",
            "import time; time.sleep(0.3)\n        return (batch",
            "fast enough",
            "ms per step",
        ),
        ("batch.weight", "batch.wieght", "one finite", "no column 'wieght'"),
        ("* error.mean(-1)).mean(-1)", "* error.mean(-1)).mean(-1).item()", "one finite", "Scalar"),
        ("return (batch", "return float('nan') * (batch", "one finite", "nan"),
        ("self.power = power", "raise KeyError('x')", "can be created", "KeyError"),
    ],
)
def test_each_violation_is_reported_with_its_line(check, old, new, clause, detail):
    report, path = check(old, new)
    assert not report.passed
    violations = [
        c for c in report.checks if not c.passed and clause in c.clause and detail in c.detail
    ]
    assert violations, report.text()
    assert violations[0].where.startswith(f"{path}:")
    assert "\n" not in violations[0].detail


def test_a_loss_of_another_shape_is_reported_by_every_check_that_needs_the_shape(check):
    report, _ = check(".mean(-1)).mean(-1)", ".mean(-1)).mean()")
    failed = [c for c in report.checks if not c.passed]
    assert {c.clause for c in failed} >= {
        "a student's loss does not depend on other students",
        "it distills a synset",
    }
    assert all("shape" in c.detail for c in failed), report.text()


def test_objective_without_teacher_receives_none(check):
    value = "teacher.value(dataset.observations, dataset.actions)"
    report, path = check("rng.random(len(dataset))", value)
    (violations,) = [c for c in report.checks if "without a teacher" in c.clause]
    assert not violations.passed
    assert "NoneType" in violations.detail
    assert violations.where.startswith(f"{path}:")


def test_registered_objectives_and_parameters():
    (report,) = validate_objectives("pbc")
    assert report.passed, report.text()
    (report,) = validate_objectives("random")
    assert report.passed, report.text()
    (report,) = validate_objectives("av-pbc", {"beta": 0.5})
    assert report.passed, report.text()
    (report,) = validate_objectives("av-pbc", {"bta": 0.5})
    assert "Did you mean beta" in report.text()


def test_invalid_plugins_are_errors(tmp_path, monkeypatch):
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    with pytest.raises(InvalidSettingError, match="no objective"):
        validate_objectives(str(empty))
    broken = tmp_path / "broken.py"
    broken.write_text("import nowhere\n")
    with pytest.raises(InvalidSettingError, match="nowhere"):
        validate_objectives(str(broken))
    with pytest.raises(InvalidSettingError, match="cannot be read"):
        validate_objectives(str(tmp_path / "missing.py"))
    with pytest.raises(UnknownNameError, match="Known: av-pbc"):
        validate_objectives("no_such_module_anywhere")
    with pytest.raises(UnknownNameError, match=r"Did you mean .*pbc"):
        validate_objectives("pcb")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "obd_lacks_one.py").write_text("import nowhere\n")
    with pytest.raises(InvalidSettingError, match="nowhere"):
        validate_objectives("obd_lacks_one")


def test_a_loss_that_is_not_finite_is_no_other_violation(check):
    report, _ = check("error = (actions", "error = float('nan') * (actions")
    failed = {each.clause for each in report.checks if not each.passed}
    assert "the loss is one finite number per student" in failed
    assert "the loss is deterministic" not in failed
    assert "a student's loss does not depend on other students" not in failed
