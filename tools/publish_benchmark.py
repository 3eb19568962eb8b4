"""Copy a measurement and its table into the documentation: `publish_benchmark.py REPORT.json`.

The report comes from `make benchmark`, `tools/truncation.py` or `tools/teach_speed.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from obdbench.reporting.blocks import write_blocks
from tools import teach_speed, truncation
from tools.benchmark_table import format_table

ROOT = Path(__file__).parents[1]
STATISTICS = ("min", "median", "mean", "stddev", "rounds")


def publish(report_path: Path) -> None:
    """Publish a report of any kind."""
    report = json.loads(report_path.read_text())
    if "benchmarks" in report:
        report = remove_rounds(report)
        publish_block("benchmark", "cpu.json", report, format_table(report))
    elif "teach" in report:
        publish_block("teach", "teach.json", report, teach_speed.format_table(report))
    else:
        publish_block("truncation", "truncation.json", report, truncation.format_table(report))


def publish_block(block: str, file: str, report: dict[str, Any], table: str) -> None:
    """Store the report, and write its table into the page."""
    (ROOT / "docs/benchmarks" / file).write_text(json.dumps(report, indent=1) + "\n")
    write_blocks(ROOT / "docs/performance.md", {block: table})


def remove_rounds(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report without the machine's name and the times of single rounds."""
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
                "stats": {name: entry["stats"][name] for name in STATISTICS},
            }
            for entry in report["benchmarks"]
        ],
    }


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
