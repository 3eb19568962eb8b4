"""The example of a selection method: short, valid, and a row and a start like any other."""

from __future__ import annotations

import numpy as np
import pytest
from support.paths import ROOT
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.objectives.objective import make_objective
from obdbench.plugins import Plugin
from obdbench.registry import objectives, selections
from obdbench.selection.selection_method import make_selection
from obdbench.selection.undistilled import select_pairs
from obdbench.validation.objective_contract import validate_objectives

EXAMPLE = ROOT / "examples" / "my_selection.py"


@pytest.fixture(scope="module")
def loaded():
    yield Plugin.read(str(EXAMPLE)).load()
    objectives.unregister("disagreement")
    selections.unregister("disagreement")


def test_the_example_has_at_most_twenty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 20


def test_the_example_prefers_states_where_the_teacher_departs_from_the_data(loaded) -> None:
    assert loaded == ["disagreement"]
    dataset = make_toy_dataset(400)
    teacher = make_toy_teacher(dataset)
    dataset.actions[:350] = teacher.act(dataset.observations)[:350]
    rows = make_selection("disagreement").select(dataset, teacher, 40, np.random.default_rng(0))
    assert rows.min() >= 350


def test_the_example_is_a_row_with_either_labels(loaded) -> None:
    dataset = make_toy_dataset(400)
    teacher = make_toy_teacher(dataset)
    for labels in ("data", "teacher"):
        row = make_objective("disagreement", {"labels": labels})
        rng = np.random.default_rng(0)
        states, _ = select_pairs(row.method, labels, dataset, teacher, 8, rng)
        assert len(states) == 8
        assert row.uses_teacher


def test_the_example_is_valid(loaded) -> None:
    (report,) = validate_objectives("disagreement")
    assert report.passed, report.text()
