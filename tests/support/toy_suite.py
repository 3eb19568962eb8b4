"""The toy plugin, its settings, and comparison of results, for tests of execution."""

import json
from pathlib import Path

import numpy as np

from obdbench.execution.trial import run_trial
from obdbench.experiments.suite import Suite
from obdbench.plugins import Plugin
from obdbench.results.store import ResultStore

TOY = str(Path(__file__).with_name("toy_plugin.py"))
PLUGINS = (Plugin.read(TOY),)
SETTINGS = {
    "pairs": 4,
    "inner_steps": 2,
    "steps": 4,
    "batch": 8,
    "architecture": "mlp2",
    "evaluate_at": [0.0, 0.5, 1.0],
}


def write_hopper(path: Path, rows: int = 400) -> None:
    """Write a file dataset of noise."""
    rng = np.random.default_rng(0)
    np.savez(
        path,
        observations=rng.normal(size=(rows, 11)),
        actions=rng.uniform(-1, 1, (rows, 3)),
        rewards=np.zeros(rows),
        terminals=np.arange(rows) % 50 == 49,
    )


def comparable_record(path: Path) -> dict:
    """A file without what may differ between equal runs: times, source commit, commands."""
    content = json.loads(path.read_text())
    content.pop("timing", None)
    content.pop("commands", None)  # of the manifest
    (content.get("environment") or {}).pop("git_commit", None)
    return content


def comparable_files(folder: Path) -> dict[str, object]:
    """Return the files of a suite that must be equal between equal runs, by name."""
    files: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.startswith(".work") or path.name == "distillation.json":
            continue
        files[name] = comparable_record(path) if path.suffix == ".json" else path.read_bytes()
    return files


def run_in_process(suite: Suite, folder: Path) -> dict[str, object]:
    """Run the trials of a suite in this process, and return its files."""
    store = ResultStore(folder, suite.name)
    store.prepare()
    specs = suite.specs()
    store.add_to_manifest(specs)
    for spec in specs:
        assert run_trial(spec, store).status == "ok"
    return comparable_files(store.folder)
