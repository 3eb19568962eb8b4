"""Print the table of a pytest-benchmark JSON file, with what each figure means."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name: the shortest and the median time, and what the benchmark noted."""
    return {
        entry["extra_info"]["name"]: {
            "min": entry["stats"]["min"],
            "median": entry["stats"]["median"],
            **entry["extra_info"],
        }
        for entry in report["benchmarks"]
        if "name" in entry["extra_info"]
    }


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    found = rows(report)
    peak = found["peak"]["gigaflop"] / found["peak"]["min"]
    machine = report["machine_info"]
    lines = [
        f"Machine: {machine['cpu'].get('brand_raw', machine['machine'])}, "
        f"{found['peak']['cores']} cores, Python {machine['python_version']}, "
        f"{report['datetime'][:10]}.",
        f"Matrix-product peak: {peak:.0f} GFLOP/s.",
        "",
        "| what | median s | best s | GFLOP/s on the floor | of peak | of eager |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in found.items():
        if "gigaflop" not in row or name == "peak":
            continue
        rate = row["gigaflop"] / row["min"]
        task = name.split()[-1]
        eager = found.get(f"eager {task}")
        ratio = f"{row['min'] / eager['min']:.2f}" if eager and name != f"eager {task}" else ""
        lines.append(
            f"| {name} | {row['median']:.3f} | {row['min']:.3f} | {rate:.0f} "
            f"| {100 * rate / peak:.0f}% | {ratio} |"
        )
    lines.append("")
    if "start" in found:
        lines.append(f"Start to first outer step: {found['start']['median']:.1f} s.")
    for name, row in found.items():
        if "gibibyte" in row:
            lines.append(f"Peak {name}: {row['gibibyte']:.2f} GiB.")
    if "evaluation" in found:
        row = found["evaluation"]
        lines.append(
            f"Evaluation of 100 hopper episodes of 10 policies ({row['env_steps']} steps): "
            f"{100 * row['ratio']:.0f}% of the bare environment's rate."
        )
    if "sweep hopper" in found:
        one = found["sweep hopper"]["min"]
        for name, row in found.items():
            if name.startswith("seeds "):
                lines.append(f"{name}: {row['min'] / one:.2f} x one seed.")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
