"""The tables in the documentation follow from the reports beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.paths import ROOT

from obdbench.reporting.blocks import list_blocks
from tools import teach_speed, truncation
from tools.benchmark_table import format_missed_variance, format_table


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
    assert dict(list_blocks(page))[block].strip() == make_table(report).strip()


def test_a_report_of_some_benchmarks_makes_a_table() -> None:
    report = json.loads((ROOT / "docs/benchmarks/cpu.json").read_text())
    start = [each for each in report["benchmarks"] if each["extra_info"].get("name") == "start"]
    assert "- Start to first outer step: " in format_table({**report, "benchmarks": start})
    rates = [each for each in report["benchmarks"] if "gigaflop" in each["extra_info"]]
    rates = [each for each in rates if not each["extra_info"]["name"].startswith("peak")]
    assert format_table({**report, "benchmarks": rates}).count("\n| ") == len(rates) + 1


def test_missed_variance_lines_name_the_first_seconds_below_each_share() -> None:
    curves = {"fast": [[1.0, 0.5], [20.0, 0.38], [30.0, 0.45]], "exact": [[9.0, 0.34]]}
    lines = format_missed_variance(
        {f"missed variance {name}": {"curve": curve} for name, curve in curves.items()}
    )
    assert [line.partition("): ")[2] for line in lines] == [
        "fast 20 s, exact 9 s.",
        "fast never, exact 9 s.",
        "fast never, exact never.",
    ]
    assert format_missed_variance({}) == []
