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


def format_table(report: dict[str, Any]) -> str:
    """Markdown."""
    found = rows(report)
    peaks = _peaks(found)
    machine = report["machine_info"]
    lines = [
        f"Machine: {machine['cpu'].get('brand_raw', machine['machine'])}, "
        f"{found['peak']['cores']} cores, Python {machine['python_version']}, "
        f"{report['datetime'][:10]}.",
        f"Matrix-product peak: {peaks[found['peak']['cores']]:.0f} GFLOP/s, of one core "
        f"{peaks[1]:.0f}.",
        "",
        "| what | median s | best s | GFLOP/s on the floor | of peak | of eager |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in found.items():
        if "gigaflop" not in row or name.startswith("peak"):
            continue
        peak = peaks[row["cores"]]
        rate = row["gigaflop"] / row["min"]
        eager = found.get(_eager(name))
        ratio = f"{row['min'] / eager['min']:.2f}" if eager and eager is not row else ""
        of_floor = f"{rate:.0f} | {100 * rate / peak:.0f}%"
        if name.startswith("window"):  # which leaves a part of the floor's products out
            of_floor = " | "
        lines.append(f"| {name} | {row['median']:.3f} | {row['min']:.3f} | {of_floor} | {ratio} |")
    lines.append("")
    if "start" in found:
        lines.append(f"- Start to first outer step: {found['start']['median']:.1f} s.")
    for name, row in found.items():
        if "gibibyte" in row:
            lines.append(f"- Peak {name}: {row['gibibyte']:.2f} GiB.")
    if "evaluation" in found:
        row = found["evaluation"]
        lines.append(
            f"- Evaluation of 100 hopper episodes of 10 policies ({row['env_steps']} steps): "
            f"{100 * row['ratio']:.0f}% of the bare environment's rate."
        )
    for name, row in found.items():
        exact = found.get(name.replace("infinite width", "one core"))
        if name.startswith("infinite width") and exact:
            lines.append(
                f"- Outer step at {name}, on one core: {row['median']:.3f} s, "
                f"{row['median'] / exact['median']:.3f} of an exact one."
            )
    lines += [*_ratios(found), *_precision(found)]
    return "\n".join(lines)


def _peaks(found: dict[str, dict[str, Any]]) -> dict[int, float]:
    """By cores: the highest rate of large products that any part of the run saw."""
    seen = [
        (row["cores"], row["gigaflop"] / row["min"])
        for name, row in found.items()
        if name.startswith("peak")
    ]
    seen += [(row["cores"], row["peak"]) for row in found.values() if "peak" in row]
    return {cores: max(rate for of, rate in seen if of == cores) for cores, _ in seen}


def _ratios(found: dict[str, dict[str, Any]]) -> list[str]:
    """What was measured in turn: times of the second over times of the first."""
    shares = [
        f"- {name.removeprefix('share: ').capitalize()}, rate on the floor over that of large "
        f"products: {100 * row['work'] / row['ratio']:.0f}% "
        f"(best over best {100 * row['work'] / row['best']:.0f}%)."
        for name, row in found.items()
        if name.startswith("share: ")
    ]
    return shares + [
        f"- {name.removeprefix('ratio: ').capitalize()}: {row['ratio']:.2f} x "
        f"(best over best {row['best']:.2f})."
        for name, row in found.items()
        if name.startswith("ratio: ")
    ]


def _eager(name: str) -> str:
    """The row of the usual way that a row of the same work is held against, if any."""
    head, _, what = name.rpartition(" ")
    if name.startswith("one core, seeds 1"):
        return name.replace("seeds 1", "eager")
    return f"eager {what}" if head in ("sweep", "general") else ""


def _precision(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for name, row in found.items():
        if not name.startswith("precision "):
            continue
        errors = {path: sorted(row[path]) for path in ("sweep", "general")}
        shown = {path: f"{found[len(found) // 2]:.1e}" for path, found in errors.items()}
        lines.append(
            f"- Gradient after 100 inner steps, {name.split()[-1]}, {len(row['sweep'])} students, "
            f"median relative distance of float32 from float64: sweep {shown['sweep']}, general "
            f"path {shown['general']}; the two in float64 at most {row['float64']:.0e} apart."
        )
    return lines


if __name__ == "__main__":
    print(format_table(json.loads(Path(sys.argv[1]).read_text())))
