"""Measure the processor time of `obdbench teach` on one thread; takes a minute of one core.

The data are 100,000 transitions of a hopper (11 observations, 3 actions). Every row takes rounds of
gradient steps; the time of a whole training is that of its default number of steps at the median
round. Processor time depends less on other programs than wall-clock time::

    python -m tools.teach_speed
    python -m tools.publish_benchmark .benchmarks/teach.json
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from obdbench.datasets.loading import load_dataset
from obdbench.offline_rl.trainer import DEFAULT_STEPS, TeacherTraining
from obdbench.policies.torch_settings import has_bfloat16_products

DATASET = "embedded/hopper-medium-replay-v1"
WARM_UP, ROUNDS, STEPS = 50, 15, 50
FLOAT32 = {"bfloat16": False}
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("td3-bc", "default", {}),
    ("td3-bc", "bfloat16=false", FLOAT32),
    ("td3-bc", "bfloat16=false, batch_size=256", {**FLOAT32, "batch_size": 256}),
    ("iql", "default", {}),
    ("cal-ql", "default", {}),
]


def measure() -> dict[str, Any]:
    """Time the gradient steps of every row."""
    torch.set_num_threads(1)
    dataset = load_dataset(DATASET)
    rows = []
    for algorithm, label, settings in ROWS:
        training = TeacherTraining([dataset], algorithm, settings=settings)
        seconds = []
        for _ in range(WARM_UP):
            training.advance()
        for _ in range(ROUNDS):
            started = time.process_time()
            for _ in range(STEPS):
                training.advance()
            seconds.append((time.process_time() - started) / STEPS)
        rows.append(
            {
                "algorithm": algorithm,
                "settings": label,
                "median": statistics.median(seconds),
                "best": min(seconds),
            }
        )
    return {
        "processor": processor_name(),
        "bfloat16_products": has_bfloat16_products(),
        "torch": torch.__version__,
        "transitions": len(dataset),
        "default_steps": DEFAULT_STEPS,
        "teach": rows,
    }


def processor_name() -> str:
    """The model of the processor, as Linux states it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def format_table(report: dict[str, Any]) -> str:
    """Return the report as a Markdown table."""
    has_products = "with" if report["bfloat16_products"] else "without"
    lines = [
        f"Processor: {report['processor']}, {has_products} bfloat16 products; one thread, "
        f"{report['transitions']:,} transitions of a hopper, torch {report['torch']}.",
        "",
        "| algorithm | settings | ms per step, median | best | "
        f"minutes of {report['default_steps']:,} steps |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['algorithm']} | {row['settings']} | {1e3 * row['median']:.2f} | "
        f"{1e3 * row['best']:.2f} | {row['median'] * report['default_steps'] / 60:.1f} |"
        for row in report["teach"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    report = measure()
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".benchmarks/teach.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(format_table(report))
