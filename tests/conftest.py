"""Toy data that every room's tests share: small, seeded, made in milliseconds."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from obdbench.data.dataset import Dataset, Standardizer
from obdbench.envs.scores import TASKS
from obdbench.teachers.teacher import Layers, Teacher


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never write into the user's cache, unless one is set for them."""
    os.environ.setdefault("OBDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def toy_network(sizes: tuple[int, ...], seed: int) -> Layers:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        (
            torch.randn(rows, columns, generator=generator) / columns**0.5,
            0.1 * torch.randn(rows, generator=generator),
        )
        for columns, rows in pairwise(sizes)
    )


def make_toy_dataset(size: int = 600, task: str = "hopper", seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    known = TASKS[task]
    mixing = rng.normal(size=(known.observation_size, known.observation_size))
    terminals = np.zeros(size, bool)
    terminals[49::50] = True
    return Dataset(
        id=f"toy/{task}",
        task=known,
        observations=(rng.normal(size=(size, known.observation_size)) @ mixing).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, known.action_size)).astype(np.float32),
        rewards=rng.normal(size=size).astype(np.float32),
        terminals=terminals,
    )


def make_toy_teacher(dataset: Dataset, seed: int = 0) -> Teacher:
    observation, action = dataset.observation_size, dataset.action_size
    return Teacher(
        id="toy",
        actor=toy_network((observation, 32, 2 * action), seed),
        critics=tuple(toy_network((observation + action, 32, 1), seed + i) for i in (1, 2)),
        standardizer=Standardizer.fit(dataset.observations),
    )


@pytest.fixture(scope="session")
def toy_dataset() -> Dataset:
    return make_toy_dataset()


@pytest.fixture(scope="session")
def toy_teacher(toy_dataset: Dataset) -> Teacher:
    return make_toy_teacher(toy_dataset)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mirror folder with the published teachers; without one, the test is skipped."""
    beside = Path(__file__).parents[2] / "shared" / "mirror"
    folder = Path(os.environ.get("OBDBENCH_MIRROR") or beside)
    if not (folder / "raw.githubusercontent.com").is_dir():
        pytest.skip("no mirror of the published teachers: set OBDBENCH_MIRROR")
    monkeypatch.setenv("OBDBENCH_MIRROR", str(folder))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    return folder
