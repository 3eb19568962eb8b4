"""Fixtures of the fuzz tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fuzzing import ReadCounter
from support.recording import AttemptCounter


@pytest.fixture
def read_counter(attempts: AttemptCounter) -> ReadCounter:
    return ReadCounter(attempts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One folder for all examples of a test."""
    return tmp_path
