"""Print a Markdown table of a pytest-benchmark JSON report."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

MISSED_VARIANCES = (0.4, 0.35, 0.3)


def collect_results(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return shortest time, median time and extra information of every benchmark by name."""
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
    """Return the report as a Markdown table and a list of derived figures."""
    results = collect_results(report)
    peaks = peak_rates(results)
    machine = report["machine_info"]
    lines = [
        f"Machine: {machine['cpu'].get('brand_raw', machine['machine'])}, Python "
        f"{machine['python_version']}, {report['datetime'][:10]}."
    ]
    rates = [f"{rate:.0f} (cores: {cores})" for cores, rate in peaks.items()]
    if rates:
        lines.append(f"Matrix-product peak in GFLOP/s: {', '.join(rates)}.")
    lines += [
        "",
        "| what | median s | best s | GFLOP/s (necessary products only) | of peak | of eager |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in results.items():
        if "gigaflop" not in row or name.startswith("peak"):
            continue
        eager = results.get(eager_counterpart(name))
        ratio = f"{row['min'] / eager['min']:.2f}" if eager and eager is not row else ""
        lines.append(
            f"| {name} | {row['median']:.3f} | {row['min']:.3f} | "
            f"{format_rate(name, row, peaks)} | {ratio} |"
        )
    lines.append("")
    if "start" in results:
        lines.append(f"- Start to first outer step: {results['start']['median']:.1f} s.")
    for name, row in results.items():
        if "gibibyte" in row:
            lines.append(f"- Peak {name}: {row['gibibyte']:.2f} GiB.")
    if "evaluation" in results:
        row = results["evaluation"]
        lines.append(
            f"- Evaluation of 100 hopper episodes of 10 policies ({row['env_steps']} steps): "
            f"{100 * row['ratio']:.0f}% of the bare environment's rate."
        )
    for name, row in results.items():
        exact = results.get(name.replace("infinite width", "one core"))
        if name.startswith("infinite width") and exact:
            lines.append(
                f"- Outer step at {name}, on one core: {row['median']:.3f} s, "
                f"{row['median'] / exact['median']:.3f} of an exact one."
            )
    lines += [*format_missed_variance(results), *format_ratios(results)]
    lines += format_precision(results)
    return "\n".join(lines)


def format_rate(name: str, row: dict[str, Any], peaks: dict[int, float]) -> str:
    """Return the rate and its share of the peak; a window skips some of the counted products."""
    if name.startswith("window"):
        return " | "
    rate, peak = row["gigaflop"] / row["min"], peaks.get(row["cores"])
    return f"{rate:.0f} | " + (f"{100 * rate / peak:.0f}%" if peak else "")


def format_missed_variance(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the first seconds at which each preset reaches a missed variance."""
    curves = {
        name.removeprefix("missed variance "): row["curve"]
        for name, row in results.items()
        if name.startswith("missed variance ")
    }
    lines = []
    for share in MISSED_VARIANCES if curves else ():
        times = []
        for preset, curve in curves.items():
            reached = [seconds for seconds, missed in curve if missed <= share]
            times.append(f"{preset} {reached[0]:.0f} s" if reached else f"{preset} never")
        lines.append(
            f"- Students that miss at most {share} of the variance (hopper medium-expert, Av-PBC, "
            f"one core): {', '.join(times)}."
        )
    return lines


def peak_rates(results: dict[str, dict[str, Any]]) -> dict[int, float]:
    """Return the highest measured rate of large matrix products by number of cores."""
    rates = [
        (row["cores"], row["gigaflop"] / row["min"])
        for name, row in results.items()
        if name.startswith("peak")
    ]
    rates += [(row["cores"], row["peak"]) for row in results.values() if "peak" in row]
    return {cores: max(rate for count, rate in rates if count == cores) for cores, _ in rates}


def format_ratios(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the ratios of times that were measured in alternation."""
    shares = [
        f"- {name.removeprefix('share: ').capitalize()}, rate of the necessary products over that "
        f"of large products: {100 * row['work'] / row['ratio']:.0f}% "
        f"(best over best {100 * row['work'] / row['best']:.0f}%)."
        for name, row in results.items()
        if name.startswith("share: ")
    ]
    return shares + [
        f"- {name.removeprefix('ratio: ').capitalize()}: {row['ratio']:.2f} x "
        f"(best over best {row['best']:.2f})."
        for name, row in results.items()
        if name.startswith("ratio: ")
    ]


def eager_counterpart(name: str) -> str:
    """Return the name of the eager benchmark with the same sizes, or an empty string."""
    kind, _, task = name.rpartition(" ")
    if name.startswith("one core, seeds 1"):
        return name.replace("seeds 1", "eager")
    return f"eager {task}" if kind in ("sweep", "general") else ""


def format_precision(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for name, row in results.items():
        if not name.startswith("precision "):
            continue
        methods = {"sweep": "sweep", "bfloat16": "sweep with bfloat16 factors"}
        methods["general"] = "general path"
        medians = ", ".join(
            f"{label} {statistics.median(row[method]):.1e}"
            for method, label in methods.items()
            if method in row
        )
        lines.append(
            f"- Gradient after 100 inner steps, {name.split()[-1]}, {len(row['sweep'])} students, "
            f"median relative distance of float32 from float64: {medians}; sweep and general path "
            f"in float64 at most {row['float64']:.0e} apart."
        )
    return lines


if __name__ == "__main__":
    print(format_table(json.loads(Path(sys.argv[1]).read_text())))
