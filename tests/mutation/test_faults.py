"""The list of planted faults fits the sources; ``make mutation`` plants them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from faults import TARGETS

ROOT = Path(__file__).parents[2]
LEAST = 20


@pytest.mark.parametrize("target", TARGETS)
def test_every_fault_can_be_planted(target: str) -> None:
    faults, tests = TARGETS[target]
    source = (ROOT / target).read_text()
    assert len(set(faults)) == len(faults) >= LEAST
    for old, new in faults:
        assert source.count(old) == 1, old
        ast.parse(source.replace(old, new))
    assert all((ROOT / test).is_file() for test in tests if test.endswith(".py"))
