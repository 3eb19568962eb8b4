"""The random search of the Ant study continues where it stopped, and its data are a dataset."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import pytest

import obdbench


class SameProcess:
    """A context of multiprocessing whose pool runs in this process."""

    def Pool(self, workers: int) -> Self:  # noqa: N802
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def imap(
        self, function: Callable[[Any], Any], jobs: Iterable[Any], chunksize: int
    ) -> Iterator[Any]:
        return map(function, jobs)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = importlib.import_module("ant_linear_data")
    for name, value in {"DIRECTIONS": 3, "BEST": 2, "HORIZON": 20, "EVERY": 1}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "get_context", lambda method: SameProcess())
    return module


def checkpoints(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: dict(np.load(path)) for path in sorted(folder.glob("search-*.npz"))}


def test_a_continued_search_equals_an_uninterrupted_one(module: ModuleType, tmp_path: Path) -> None:
    module.search(tmp_path / "once", 3, workers=1)
    for iterations in (1, 3):
        module.search(tmp_path / "twice", iterations, workers=1)
    once, twice = checkpoints(tmp_path / "once"), checkpoints(tmp_path / "twice")
    assert list(once) == ["search-00001.npz", "search-00002.npz", "search-00003.npz"]
    assert once.keys() == twice.keys()
    for name, saved in once.items():
        for key, value in saved.items():
            np.testing.assert_array_equal(value, twice[name][key])
    assert np.abs(once["search-00003.npz"]["weights"]).sum() > 0


def test_step_follows_the_definition(module: ModuleType, tmp_path: Path) -> None:
    module.search(tmp_path, 1, workers=1)
    zeros = np.zeros((8, 27))
    returns = np.array(
        [
            [
                module.search_episode(
                    (
                        module.make_policy(
                            zeros + sign * module.SEARCH_NOISE * module.direction(seed),
                            module.Moments(),
                        ),
                        seed,
                    )
                )[0]
                for sign in (1, -1)
            ]
            for seed in range(3)
        ]
    )
    best = sorted(range(3), key=lambda seed: -returns[seed].max())[:2]
    gradient = sum((returns[i, 0] - returns[i, 1]) * module.direction(i) for i in best)
    expected = module.STEP_SIZE / (2 * returns[best].std()) * gradient
    (saved,) = checkpoints(tmp_path).values()
    np.testing.assert_allclose(saved["weights"], expected)


def test_episodes_of_the_checkpoints_are_a_dataset(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "ant.hdf5"
    options = ["--run", str(tmp_path / "run"), "--iterations", "2", "--workers", "1"]
    module.main([str(path), *options, "--transitions", "100"])
    dataset = obdbench.load_dataset(f"file:{path}")
    assert dataset.task.name == "ant"
    assert len(dataset.rewards) >= 100
    assert np.abs(dataset.actions).max() <= 1
    assert dataset.actions.std() > 0
