from __future__ import annotations

from pathlib import Path

import pytest
from support.paths import FIXTURES

from obdbench.reporting.grids.suite_results import SuiteResults, read_suite_results


@pytest.fixture(scope="session")
def results_root() -> Path:
    return FIXTURES / "results"


@pytest.fixture(scope="session")
def d4rl(results_root: Path) -> SuiteResults:
    return read_suite_results(results_root / "d4rl", strict=True)


@pytest.fixture(scope="session")
def quick(results_root: Path) -> SuiteResults:
    return read_suite_results(results_root / "quick", strict=True)
