"""Valid selection methods pass the contract checks; each kind of violation is reported."""

import numpy as np
import pytest

from obdbench.validation.objective_contract import validate_objectives

HEAD = """
import numpy as np
import obdbench

@obdbench.register_selection("validated")
class Mine(obdbench.SelectionMethod):
    uses_teacher = False
    def __init__(self, *, offset: int = 0):
        self.offset = offset
    def select(self, dataset, teacher, pairs, rng):
        rows = rng.choice(len(dataset), pairs, replace=False)
        return rows
"""


@pytest.fixture
def check(tmp_path):
    from obdbench.registry import objectives, selections

    def run(old="", new=""):
        assert old in HEAD
        path = tmp_path / "mine.py"
        path.write_text(HEAD.replace(old, new) if old else HEAD)
        (report,) = validate_objectives(str(path))
        return report, path

    yield run
    for registry in (objectives, selections):
        if "validated" in registry:
            registry.unregister("validated")


def test_valid_selection_passes(check):
    report, _ = check()
    assert report.passed, report.text()
    assert sum("select" in violations.clause for violations in report.checks) == 3


@pytest.mark.parametrize("name", ["random", "kmeans++", "top-q", "top-return", "omp", "sdr"])
def test_selections_of_the_package_pass(name, monkeypatch):
    density = "obdbench.selection.stepwise_dual_ranking.log_density"
    monkeypatch.setattr(density, lambda dataset: -np.square(dataset.states).sum(axis=1))
    (report,) = validate_objectives(name)
    assert report.passed, report.text()
    needs = [violations for violations in report.checks if "needs the teacher" in violations.clause]
    assert len(needs) == (name in ("top-q", "sdr"))


@pytest.mark.parametrize(
    ("old", "new", "clause", "detail"),
    [
        ("return rows", "return rows[:-1]", "distinct rows", "distinct rows"),
        ("return rows", "return rows * 0", "distinct rows", "distinct rows"),
        ("return rows", "return rows + len(dataset)", "distinct rows", "distinct rows"),
        ("return rows", "return rows.astype(float)", "distinct rows", "distinct rows"),
        ("return rows", "return np.sort(teacher.act(rows))", "without a teacher", "NoneType"),
        (
            "rng.choice(",
            "np.random.default_rng().choice(",
            "deterministic given its generator",
            "draw from rng",
        ),
        ("return rows", "np.random.rand(); return rows", "random state", "use rng"),
        ("return rows", "dataset.actions[0] = 0; return rows", "does not change", "in place"),
        ("uses_teacher = False", "uses_teacher = True", "needs the teacher", "uses_teacher"),
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
