"""The published table follows from the published measurements."""

from __future__ import annotations

import json
from pathlib import Path

from table import table

ROOT = Path(__file__).parents[2]


def test_the_documented_table_is_the_measurements_own() -> None:
    report = json.loads((ROOT / "docs/benchmarks/cpu.json").read_text())
    page = (ROOT / "docs/performance.md").read_text()
    shown = page.split("<!-- benchmark:begin -->\n")[1].split("<!-- benchmark:end -->")[0]
    assert shown.strip() == table(report).strip()
