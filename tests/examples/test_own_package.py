"""The example package, installed as a user installs it, joins the registries of its extensions."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.settings import DistillSettings

PACKAGE = Path(__file__).parents[2] / "examples" / "own_package"
Script = Callable[..., subprocess.CompletedProcess[str]]
NAMES = {
    "objectives": "return-dbc",
    "datasets": "better-half/hopper-medium-replay-v1",
    "teachers": "ridge",
    "tasks": "mountain-car",
    "protocols": "disturbed",
    "architectures": "mlp4-silu",
}


@pytest.fixture(scope="module")
def installed(python: Script, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed into a separate folder: nothing is downloaded, nothing else is changed."""
    pytest.importorskip("hatchling", reason="the package's build backend is not installed")
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", target]
    python("-m", "pip", "install", *options, PACKAGE, cwd=target)
    return target


def test_every_name_is_listed(installed: Path, python: Script, tmp_path: Path) -> None:
    code = (
        "import json, sys; from obdbench import registry;"
        f"kinds = {list(NAMES)};"
        "print(json.dumps({kind: getattr(registry, kind).names() for kind in kinds}));"
        "assert 'torch' not in sys.modules and 'obdbench_returns' not in sys.modules"
    )
    listed = json.loads(python("-c", code, cwd=tmp_path, path=installed).stdout)
    for kind, name in NAMES.items():
        assert name in listed[kind]
    done = python("-m", "obdbench", "list", "objectives", cwd=tmp_path, path=installed)
    assert "return-dbc" in done.stdout
    assert "return-dbc" not in python("-m", "obdbench", "list", "objectives", cwd=tmp_path).stdout


def test_its_objective_keeps_the_contract(installed: Path, python: Script, tmp_path: Path) -> None:
    done = python("-m", "obdbench", "validate", "return-dbc", cwd=tmp_path, path=installed)
    assert "return-dbc: valid" in done.stdout


def test_all_four_work_together(installed: Path, python: Script, tmp_path: Path) -> None:
    options = ["--objective", "return-dbc", "--dataset", NAMES["datasets"], "--workers", "1"]
    options += ["--protocol", "disturbed", "--set", "architecture=mlp4-silu", "--out", "results"]
    python("-m", "obdbench", "run", "smoke", *options, cwd=tmp_path, path=installed)
    (path,) = (p for p in (tmp_path / "results" / "smoke").glob("*.json") if p.stem != "manifest")
    result = json.loads(path.read_text())
    assert result["status"] == "ok"
    assert result["spec"]["code"]
    assert result["dataset"]["id"] == NAMES["datasets"]
    assert {point["seed"] for point in result["points"]} == {0, 1}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Its modules in this process, for what is quicker asked of them directly."""
    monkeypatch.syspath_prepend(str(PACKAGE / "src"))
    yield lambda name: importlib.import_module(f"obdbench_returns.{name}")
    for name in [name for name in sys.modules if name.startswith("obdbench_returns")]:
        del sys.modules[name]


def test_returns_to_go_end_with_their_episode(module: Callable[[str], Any]) -> None:
    from obdbench.tasks.task import TASKS

    task = TASKS["hopper"]
    dataset = Dataset(
        id="toy/hopper",
        task=task,
        observations=np.zeros((5, task.observation_size), np.float32),
        actions=np.zeros((5, task.action_size), np.float32),
        rewards=np.array([1, 2, 4, 8, 16], np.float32),
        terminals=np.array([False, True, False, False, False]),
        timeouts=np.array([False, False, False, True, False]),
    )
    to_go = module("objective").returns_to_go(dataset, 0.5)
    np.testing.assert_allclose(to_go, [2, 2, 8, 8, 16])


def test_its_teacher_fits_actions_better_than_their_mean(module: Callable[[str], Any]) -> None:
    import obdbench

    dataset = obdbench.load_dataset("embedded/hopper-medium-v1")
    teacher = module("teacher").load(dataset.id)
    errors = np.square(teacher.act(dataset.observations) - dataset.actions).mean(axis=0)
    assert (errors < dataset.actions.var(axis=0)).all()


def test_its_task_describes_the_environment(module: Callable[[str], Any]) -> None:
    task = module("task").MOUNTAIN_CAR()
    assert (task.observation_size, task.action_size, task.episode_limit) == (2, 1, 999)
    assert task.reference_returns == (-33.3, 94.679)


def test_the_better_half_is_better(module: Callable[[str], Any]) -> None:
    import obdbench

    half = module("dataset").load("better-half/hopper-medium-replay-v1")
    whole = obdbench.load_dataset("embedded/hopper-medium-replay-v1")
    kept, all_of_them = half.episode_returns(), whole.episode_returns()
    assert kept.min() >= np.median(all_of_them)
    assert abs(len(kept) - len(all_of_them) / 2) <= 1
    assert half.card["made_from_checksum"] == whole.checksum


def test_disturbance_of_a_seed_ignores_its_neighbors(
    module: Callable[[str], Any], toy_dataset: Dataset
) -> None:
    from obdbench.distillation.loop import distill_points
    from obdbench.objectives.objective import make_objective

    settings = DistillSettings(pairs=8, inner_steps=3, steps=0, architecture="mlp2")
    random = make_objective("random")
    (point,) = distill_points(toy_dataset, None, random, settings, [3, 4])
    protocol = module("protocol").Disturbed(policies=2, episodes=2)
    calm = module("protocol").Disturbed(policies=2, episodes=2, sigma=0.0)
    together = protocol.score(point.synsets, settings, [3, 4])
    alone = protocol.score(point.synsets[1:], settings, [4])
    np.testing.assert_allclose(together[1].returns, alone[0].returns, rtol=1e-3)
    assert together[1].returns != calm.score(point.synsets, settings, [3, 4])[1].returns


def test_its_architecture_is_smooth_and_general(module: Callable[[str], Any]) -> None:
    from obdbench.policies.networks import seeded_generator

    smooth = module("architecture").MLP4_SILU
    params = smooth.init([seeded_generator(0), seeded_generator(1)], 5, 2, dtype=torch.float64)
    states = torch.linspace(-2, 2, 15, dtype=torch.float64).reshape(3, 5).requires_grad_()
    assert smooth.act(params, states).shape == (2, 3, 2)
    assert torch.autograd.gradgradcheck(lambda x: smooth.act(params, x).sum((0, 2)), (states,))
