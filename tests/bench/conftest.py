"""Toy trials: no environment, no teacher, milliseconds each."""

import json
from pathlib import Path

import pytest

from obdbench.bench.plugins import Plugin
from obdbench.bench.spec import TrialSpec
from obdbench.bench.store import Store
from obdbench.bench.suite import Suite
from obdbench.distill.settings import DistillSettings

TOY = str(Path(__file__).with_name("toy_plugin.py"))
SETTINGS = {
    "pairs": 4,
    "inner_steps": 2,
    "steps": 4,
    "batch": 8,
    "architecture": "mlp2",
    "evaluate_at": [0.0, 0.5, 1.0],
}


@pytest.fixture(scope="session")
def plugin() -> Plugin:
    loaded = Plugin.read(TOY)
    loaded.load()
    return loaded


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "results", "toy")
    made.prepare()
    return made


@pytest.fixture
def spec(plugin):
    def make(objective="student", protocol="toy", seeds=(0, 1), params=None, **settings):
        return TrialSpec(
            dataset="toy/hopper-toy-v0",
            objective=objective,
            objective_params=params or {},
            protocol=protocol,
            settings=DistillSettings(**{**SETTINGS, **settings}),
            seeds=seeds,
        )

    return make


@pytest.fixture
def toy_suite(plugin):
    def make(*objectives, name="toy", protocols=("toy",), **settings):
        return Suite(
            name=name,
            datasets=("toy/hopper-toy-v0",),
            objectives=list(objectives),
            protocols=list(protocols),
            seeds=(0, 1),
            settings={**SETTINGS, **settings},
        )

    return make


def bare(path: Path) -> dict:
    """A result file without what may differ between equal runs: times, and the source's commit."""
    content = json.loads(path.read_text())
    content.pop("timing", None)
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
