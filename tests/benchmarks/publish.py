"""Put a measurement and its table into the documentation: `publish.py MEASUREMENT.json`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from table import table

ROOT = Path(__file__).parents[2]
KEPT = ("min", "median", "mean", "stddev", "rounds")


def publish(measured: Path) -> None:
    """Keep what the table needs, without the machine's name and without single rounds."""
    report = json.loads(measured.read_text())
    kept = {
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
    (ROOT / "docs/benchmarks/cpu.json").write_text(json.dumps(kept, indent=1) + "\n")
    page = ROOT / "docs/performance.md"
    text = re.sub(
        r"(<!-- benchmark:begin -->\n).*?(<!-- benchmark:end -->)",
        lambda found: f"{found[1]}\n{table(kept)}\n\n{found[2]}",
        page.read_text(),
        flags=re.DOTALL,
    )
    page.write_text(text)


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
