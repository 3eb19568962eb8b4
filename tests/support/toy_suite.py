"""What the bench tests share: the toy plugin, its settings, and how results are compared."""

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
    """A file of one's own, of noise."""
    rng = np.random.default_rng(0)
    np.savez(
        path,
        observations=rng.normal(size=(rows, 11)),
        actions=rng.uniform(-1, 1, (rows, 3)),
        rewards=np.zeros(rows),
        terminals=np.arange(rows) % 50 == 49,
    )


def bare(path: Path) -> dict:
    """A file without what may differ between equal runs: times, source commit, commands."""
    content = json.loads(path.read_text())
    content.pop("timing", None)
    content.pop("commands", None)  # of the manifest
    (content.get("environment") or {}).pop("git_commit", None)
    return content


def contents(folder: Path) -> dict[str, object]:
    """Everything a suite's folder holds that must be equal between equal runs."""
    files: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.startswith(".work") or path.name == "distillation.json":
            continue
        files[name] = bare(path) if path.suffix == ".json" else path.read_bytes()
    return files


def alone(suite: Suite, folder: Path) -> dict[str, object]:
    """The same trials in this very process, undisturbed."""
    store = ResultStore(folder, suite.name)
    store.prepare()
    specs = suite.specs()
    store.add_to_manifest(specs)
    for spec in specs:
        assert run_trial(spec, store).status == "ok"
    return contents(store.folder)
