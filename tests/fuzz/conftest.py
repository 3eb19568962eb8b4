"""Fixtures of the fuzz tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fuzzing import Tried
from support.recording import Tally


@pytest.fixture
def tried(tally: Tally) -> Tried:
    return Tried(tally)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """One folder for all examples of a test."""
    return tmp_path
