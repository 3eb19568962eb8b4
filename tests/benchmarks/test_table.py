"""The tables in the documentation follow from the reports beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.paths import ROOT

from tools import teach_speed, truncation
from tools.benchmark_table import format_table


@pytest.mark.parametrize(
    ("block", "file", "make_table"),
    [
        ("benchmark", "cpu.json", format_table),
        ("teach", "teach.json", teach_speed.format_table),
        ("truncation", "truncation.json", truncation.format_table),
    ],
)
def test_documented_table_is_made_from_the_report(
    block: str, file: str, make_table: Callable[[dict[str, Any]], str]
) -> None:
    report = json.loads((ROOT / "docs/benchmarks" / file).read_text())
    page = (ROOT / "docs/performance.md").read_text()
    table = page.split(f"<!-- {block}:begin -->\n")[1].split(f"<!-- {block}:end -->")[0]
    assert table.strip() == make_table(report).strip()
