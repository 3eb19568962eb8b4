"""Fixtures of the fuzz tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fuzzing import Tried
from support.recording import AttemptCounter


@pytest.fixture
def tried(attempts: AttemptCounter) -> Tried:
    return Tried(attempts)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """One folder for all examples of a test."""
    return tmp_path
