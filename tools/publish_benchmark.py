"""Put a measurement and its table into the documentation: `publish.py MEASUREMENT.json`.

It takes what `make benchmark` leaves or what `truncation.py` leaves.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tools import truncation
from tools.benchmark_table import table

ROOT = Path(__file__).parents[1]
KEPT = ("min", "median", "mean", "stddev", "rounds")


def publish(measured: Path) -> None:
    report = json.loads(measured.read_text())
    if "benchmarks" in report:
        report = without_rounds(report)
        put("benchmark", "cpu.json", report, table(report))
    else:
        put("truncation", "truncation.json", report, truncation.table(report))


def put(block: str, file: str, report: dict[str, Any], shown: str) -> None:
    """Keep the measurement, and its table between the page's marks."""
    (ROOT / "docs/benchmarks" / file).write_text(json.dumps(report, indent=1) + "\n")
    page = ROOT / "docs/performance.md"
    text = re.sub(
        rf"(<!-- {block}:begin -->\n).*?(<!-- {block}:end -->)",
        lambda found: f"{found[1]}\n{shown}\n\n{found[2]}",
        page.read_text(),
        flags=re.DOTALL,
    )
    page.write_text(text)


def without_rounds(report: dict[str, Any]) -> dict[str, Any]:
    """What the table needs, without the machine's name and without single rounds."""
    return {
        "machine_info": {
            "cpu": {"brand_raw": report["machine_info"]["cpu"].get("brand_raw", "unknown")},
            "machine": report["machine_info"]["machine"],
            "python_version": report["machine_info"]["python_version"],
        },
        "datetime": report["datetime"],
        "benchmarks": [
            {
                "name": entry["name"],
                "extra_info": entry["extra_info"],
                "stats": {name: entry["stats"][name] for name in KEPT},
            }
            for entry in report["benchmarks"]
        ],
    }


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
