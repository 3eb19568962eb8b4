"""Tables from ten thousand result files take a small multiple of the time to parse their JSON."""

from __future__ import annotations

import json
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from obdbench.experiments.spec import TrialSpec
from obdbench.registry import D4RL_NAMES
from obdbench.reporting import pages
from obdbench.reporting.grids.suite_results import read_suite_results
from obdbench.reporting.tables.suite_report import build_report
from obdbench.tasks.task import get_task

FILES, LARGEST_RATIO = 10_000, 5.0


def write_many(folder: Path) -> None:
    """Trials of the usual size: 3 seeds, 9 points, 10 policies of 3 episodes (20 kB a file)."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    variants = product(range(FILES // (9 * 5) + 1), D4RL_NAMES, range(5))
    for (variant, name, objective), _ in zip(variants, range(FILES), strict=False):
        dataset = f"d4rl/{name}-v2"
        spec = TrialSpec(
            dataset=dataset, objective=f"objective-{objective}", objective_params={"v": variant}
        )
        task = get_task(dataset)
        returns = rng.uniform(0.0, task.expert_return, size=(27, 10, 3))
        scale = task.expert_return - task.random_return
        scores = 100.0 * (returns.mean(axis=(1, 2)) - task.random_return) / scale
        points = [
            {
                "seed": i // 9,
                "step": 30 * (i % 9),
                "arm": "default",
                "returns": returns[i].tolist(),
                "normalized_return": float(scores[i]),
            }
            for i in range(27)
        ]
        record = {
            "schema_version": 1,
            "key": spec.key,
            "suite": "many",
            "spec": spec.model_dump(mode="json"),
            "status": "ok",
            "points": points,
            "environment": {
                "env_id": task.env_id,
                "device": "cpu",
                "threads": 1,
                "versions": {"torch": "2.13.0"},
            },
        }
        (folder / f"{spec.key}.json").write_text(json.dumps(record, separators=(",", ":")))


@pytest.mark.slow
def test_ten_thousand_files(tmp_path):
    folder = tmp_path / "results" / "many"
    write_many(folder)
    start = time.process_time()
    for path in folder.iterdir():
        json.loads(path.read_bytes())
    parse = time.process_time() - start
    start = time.process_time()
    collection = read_suite_results(folder, strict=True)
    read = time.process_time() - start
    report = build_report(collection)
    texts = pages.markdown_blocks(report, "results/many/", "")
    total = time.process_time() - start
    sys.stderr.write(
        f"\n{len(collection)} files: parsed {parse:.1f} s, read {read:.1f} s, "
        f"with tables {total:.1f} s\n"
    )
    assert len(collection) == FILES
    assert texts["main"].count("\n") > FILES / 9
    assert total <= LARGEST_RATIO * parse
