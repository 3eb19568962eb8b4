"""Measure the overhead of Ray: time and memory of a suite with each executor.

``python tools/ray_overhead.py [--suite quick] [--workers 2] [--json PATH]`` runs the suite with one
executor after the other, each in an empty results folder, and writes the measurements. Memory is
the largest sum over the main process, its workers and Ray's own processes, sampled once per second,
with shared pages counted once (PSS). Run it on an otherwise idle machine. Processor seconds show
whether the machine was idle, because they exclude the time spent waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs" / "reliability" / "overhead.json"
sys.path.insert(0, str(ROOT / "tests"))

from support.memory import ResourceWatch  # noqa: E402
from support.processes import run_environment  # noqa: E402
from support.toy_suite import comparable_files  # noqa: E402

MAX_EXTRA_SECONDS, MAX_EXTRA_SHARE, MAX_GIBIBYTES = 15.0, 0.10, 4.0


def measure_run(executor: str, suite: str, workers: int, folder: Path) -> dict[str, Any]:
    """Run the suite with an executor in an empty results folder."""
    options = ["--executor", executor, "--workers", str(workers), "--out", str(folder)]
    load = os.getloadavg()[0]
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "obdbench", "run", suite, *options], env=run_environment()
    )
    with ResourceWatch(process.pid) as watch:
        exit_code = process.wait()
    seconds = time.monotonic() - start
    if exit_code != 0:
        raise SystemExit(f"{suite} with {executor} ended with exit code {exit_code}.")
    return {
        "executor": executor,
        "seconds": round(seconds, 1),
        "processor_seconds": round(watch.spent, 1),
        "gibibytes": round(watch.peak / 2**30, 2),
        "gibibytes_of": {role: round(size / 2**30, 2) for role, size in watch.parts.items()},
        "load_before": round(load, 2),
    }


def compare_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Time that Ray adds, and whether time and memory are within the limits."""
    seconds = {run["executor"]: run["seconds"] for run in runs}
    extra = seconds["ray"] - seconds["local"]
    return {
        "extra_seconds": round(extra, 1),
        "extra_share": round(extra / seconds["local"], 3),
        "time_met": extra <= MAX_EXTRA_SECONDS and extra <= MAX_EXTRA_SHARE * seconds["local"],
        "memory_met": max(run["gibibytes"] for run in runs) <= MAX_GIBIBYTES,
    }


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, default=REPORT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folders = {name: Path(root) / name for name in ("local", "ray")}
        runs = [
            measure_run(name, arguments.suite, arguments.workers, folder)
            for name, folder in folders.items()
        ]
        equal = comparable_files(folders["local"] / arguments.suite) == comparable_files(
            folders["ray"] / arguments.suite
        )
    report = {
        "suite": arguments.suite,
        "workers": arguments.workers,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "runs": runs,
        "results_equal": equal,
        **compare_runs(runs),
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
