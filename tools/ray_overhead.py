"""What Ray costs beside the local executor: time and memory of the same suite under both.

``python tools/ray_overhead.py [--suite quick] [--workers 2] [--json PATH]`` runs the suite
under one executor after the other, from an empty results folder, and writes what it measured. The
memory is the largest sum over the driver, its workers and Ray's own processes, looked at once a
second, shared pages counted once (PSS). Do it on an otherwise idle machine: the processor seconds
tell whether it was one, since they count what the run used and not what it waited for.
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

from support.memory import Watch  # noqa: E402
from support.processes import environment  # noqa: E402
from support.toy_suite import contents  # noqa: E402

SECONDS, SHARE, GIBIBYTES = 15.0, 0.10, 4.0  # what Ray may cost beside local, and both at most


def measure(executor: str, suite: str, workers: int, folder: Path) -> dict[str, Any]:
    """One run from an empty folder."""
    options = ["--executor", executor, "--workers", str(workers), "--out", str(folder)]
    load = os.getloadavg()[0]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "obdbench", "run", suite, *options], env=environment()
    )
    with Watch(process.pid) as watch:
        code = process.wait()
    seconds = time.monotonic() - began
    if code != 0:
        raise SystemExit(f"{suite} with {executor} ended with exit code {code}.")
    return {
        "executor": executor,
        "seconds": round(seconds, 1),
        "processor_seconds": round(watch.spent, 1),
        "gibibytes": round(watch.peak / 2**30, 2),
        "gibibytes_of": {role: round(size / 2**30, 2) for role, size in watch.parts.items()},
        "load_before": round(load, 2),
    }


def verdict(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What was asked for, and whether it was met."""
    by = {run["executor"]: run for run in runs}
    extra = by["ray"]["seconds"] - by["local"]["seconds"]
    return {
        "extra_seconds": round(extra, 1),
        "extra_share": round(extra / by["local"]["seconds"], 3),
        "time_met": extra <= SECONDS and extra <= SHARE * by["local"]["seconds"],
        "memory_met": max(run["gibibytes"] for run in runs) <= GIBIBYTES,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, default=REPORT)
    call = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = {name: Path(folder) / name for name in ("local", "ray")}
        runs = [measure(name, call.suite, call.workers, path) for name, path in out.items()]
        equal = contents(out["local"] / call.suite) == contents(out["ray"] / call.suite)
    report = {
        "suite": call.suite,
        "workers": call.workers,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "runs": runs,
        "results_equal": equal,
        **verdict(runs),
    }
    call.json.parent.mkdir(parents=True, exist_ok=True)
    call.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
