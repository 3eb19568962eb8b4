"""The published tables follow from the published measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.paths import ROOT

from tools import truncation
from tools.benchmark_table import table


@pytest.mark.parametrize(
    ("block", "file", "made"),
    [("benchmark", "cpu.json", table), ("truncation", "truncation.json", truncation.table)],
)
def test_the_documented_table_is_the_measurements_own(
    block: str, file: str, made: Callable[[dict[str, Any]], str]
) -> None:
    report = json.loads((ROOT / "docs/benchmarks" / file).read_text())
    page = (ROOT / "docs/performance.md").read_text()
    shown = page.split(f"<!-- {block}:begin -->\n")[1].split(f"<!-- {block}:end -->")[0]
    assert shown.strip() == made(report).strip()
