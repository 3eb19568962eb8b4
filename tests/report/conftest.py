from __future__ import annotations

import sys
from pathlib import Path

import pytest

from obdbench.report.reader import Collection, read_results

FIXTURES = Path(__file__).parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))


@pytest.fixture(scope="session")
def results_root() -> Path:
    return FIXTURES / "results"


@pytest.fixture(scope="session")
def recon(results_root: Path) -> Collection:
    return read_results(results_root / "recon", strict=True)


@pytest.fixture(scope="session")
def quick(results_root: Path) -> Collection:
    return read_results(results_root / "quick", strict=True)
