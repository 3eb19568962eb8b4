"""Marks of seeds whose students miss much of the variance of the target actions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from obdbench.experiments.spec import TrialSpec
from obdbench.results.record import Result, StudentCheckRecord
from obdbench.results.student_checks import seeds_with_high_missed_variance


@pytest.mark.parametrize(
    ("shares", "marked"),
    [
        ([0.9, 0.3, 0.2], False),
        ([0.9, 0.2, 0.25], False),
        ([0.9, 0.2, 0.4], True),
        ([0.9, 0.7, 0.6], True),
        ([0.9, 0.5], False),
        ([0.9, 0.2, None], True),
        ([], False),
    ],
    ids=["falls", "small rise", "rise", "above one half", "one half", "diverged", "no checks"],
)
def test_seed_is_marked_by_its_last_check(
    shares: list[float | None], marked: bool, spec: Callable[..., TrialSpec]
) -> None:
    trial = spec(guard_interval=10, guard_max_rise=0.1)
    checks = [
        StudentCheckRecord(step=10 * i, missed_variance=share, missed_objective=share)
        for i, share in enumerate(shares)
    ]
    result = Result(
        key=trial.key, suite="toy", spec=trial, status="ok", student_checks={"1": checks}
    )
    assert seeds_with_high_missed_variance(result) == ({1} if marked else set())
