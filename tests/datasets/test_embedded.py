"""The datasets that are shipped with the package, and the format they are packed in."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obdbench.datasets import embedded
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.loading import load_dataset
from obdbench.datasets.packing import pack, unpack
from obdbench.datasets.statistics import return_difference, return_tolerance
from obdbench.errors import InvalidDataError, UnknownNameError
from obdbench.tasks.task import TASKS, normalized_return
from obdbench.teachers.loading import load_teacher

HOPPER = TASKS["hopper"]
IDS = [f"embedded/{name}" for name in embedded.NAMES]
LIMIT_BYTES = 40_000_000


def toy(lengths: list[int], seed: int = 0) -> Dataset:
    """Whole episodes of random numbers, ended by terminals and time-outs in turn."""
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    ends = np.cumsum(lengths) - 1
    observations = rng.normal(size=(total, 11)).astype(np.float32)
    following = np.roll(observations, -1, axis=0)
    following[ends] = 3 * rng.normal(size=(len(ends), 11))
    terminals, timeouts = np.zeros(total, bool), np.zeros(total, bool)
    terminals[ends[::2]], timeouts[ends[1::2]] = True, True
    actions = rng.uniform(-1, 1, (total, 3)).astype(np.float32)
    actions[0], actions[-1] = 1.0, -1.0
    return Dataset(
        "toy",
        HOPPER,
        observations,
        actions,
        rng.normal(size=total).astype(np.float32),
        terminals,
        following,
        timeouts,
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 2**16))
def test_packing_keeps_episodes_exactly_and_values_to_the_grid(
    lengths: list[int], seed: int
) -> None:
    before = toy(lengths, seed)
    after = unpack(pack(before), "toy", HOPPER, {})
    assert np.array_equal(after.terminals, before.terminals)
    assert np.array_equal(after.timeouts, before.timeouts)
    all_observations = np.concatenate([before.observations, before.next_observations])
    half_grid = np.ptp(all_observations, axis=0) / 65_535 / 2 + 2e-6
    for name in ("observations", "next_observations"):
        assert (np.abs(getattr(after, name) - getattr(before, name)) <= half_grid).all()
    assert np.abs(after.actions - before.actions).max() <= 2 / 65_535
    assert np.abs(after.rewards - before.rewards).max() <= np.ptp(before.rewards) / 65_535 + 1e-6
    inner = np.flatnonzero(~(after.terminals | after.timeouts))
    assert np.array_equal(after.next_observations[inner], after.observations[inner + 1])


def test_packing_keeps_the_bounds_of_actions() -> None:
    after = unpack(pack(toy([30, 20])), "toy", HOPPER, {})
    assert after.actions.min() == -1.0
    assert after.actions.max() == 1.0


def test_packing_twice_gives_equal_bytes() -> None:
    assert pack(toy([20, 30])) == pack(toy([20, 30]))


def test_packing_accepts_a_constant_column() -> None:
    before = toy([10])
    before.observations[:, 4] = before.next_observations[:, 4] = 0.25
    after = unpack(pack(before), "toy", HOPPER, {})
    assert (after.observations[:, 4] == 0.25).all()


def test_packing_refuses_an_open_episode() -> None:
    dataset = toy([10, 10])
    dataset.terminals[:] = dataset.timeouts[:] = False
    with pytest.raises(InvalidDataError, match="whole episodes"):
        pack(dataset)


def test_packing_refuses_a_gap_within_an_episode() -> None:
    dataset = toy([10, 10])
    dataset.observations[4] += 1
    with pytest.raises(InvalidDataError, match="following row"):
        pack(dataset)


@pytest.mark.parametrize("dataset_id", IDS)
def test_every_dataset_is_what_its_card_says(dataset_id: str) -> None:
    started = time.process_time()
    dataset = load_dataset(dataset_id)
    assert time.process_time() - started < 0.5
    card, committed = dataset.card, dataset.card["committed"]
    assert len(dataset) == committed["transitions"] >= 100_000
    assert dataset.checksum == card["checksum"]
    assert card["environment"]["id"] == dataset.task.env_id
    returns = dataset.episode_returns()
    assert len(returns) == committed["episodes"]
    assert normalized_return(dataset.task, returns).mean() == pytest.approx(
        committed["normalized_return_mean"], abs=0.01
    )
    assert returns.mean() == pytest.approx(committed["return_mean"], abs=0.01)
    assert abs(return_difference(dataset)) <= return_tolerance(dataset)
    assert dataset.standardizer.mean == pytest.approx(committed["observation_mean"], abs=1e-4)
    assert dataset.standardizer.std == pytest.approx(committed["observation_std"], abs=1e-4)
    assert dataset.terminals[-1] or dataset.timeouts[-1]
    assert not (dataset.terminals & dataset.timeouts).any()
    assert np.abs(dataset.actions).max() <= 1.0
    assert max(card["encoding"]["largest_error_in_standard_deviations"].values()) < 1e-3


@pytest.mark.parametrize("dataset_id", IDS)
def test_every_dataset_has_a_teacher_that_was_trained_offline(dataset_id: str) -> None:
    teacher, dataset = load_teacher(dataset_id), load_dataset(dataset_id)
    assert teacher.id == dataset_id
    assert teacher.card["algorithm"] == "td3-bc"
    assert teacher.card["measured"]["episodes"] == 100
    if DatasetId(dataset_id).level != "medium-expert":
        behavior = dataset.card["committed"]["normalized_return_mean"]
        assert teacher.card["measured"]["normalized_return"] > behavior
    values = teacher.value(dataset.observations[:256], dataset.actions[:256])
    assert values.shape == (256,)
    assert np.isfinite(values).all()


def test_the_data_files_stay_small() -> None:
    files = embedded.FILES.glob("*.npz")
    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES


def test_the_levels_are_ordered_by_return() -> None:
    for task in TASKS:
        means = [
            load_dataset(f"embedded/{task}-{level}-v1").episode_returns().mean()
            for level in ("medium-replay", "medium", "medium-expert")
        ]
        assert means == sorted(means)


@pytest.mark.parametrize("name", ["hopper-medium-v2", "../hopper-medium-v1", "hoper-medium-v1", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UnknownNameError):
        embedded.load(f"embedded/{name}")
    with pytest.raises(UnknownNameError):
        embedded.teacher_path(f"embedded/{name}")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for path in embedded.FILES.glob("hopper-medium-replay-v1*"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "card", "no checksum"])
@pytest.mark.parametrize("kind", ["data", "teacher"])
def test_a_damaged_file_is_one_clear_error(copy: Path, damage: str, kind: str) -> None:
    name = "hopper-medium-replay-v1"
    path = copy / (f"{name}.npz" if kind == "data" else f"{name}-teacher.safetensors")
    blob = bytearray(path.read_bytes())
    if damage == "flip":
        blob[len(blob) // 2] ^= 1
        path.write_bytes(blob)
    elif damage == "truncate":
        path.write_bytes(blob[:-100])
    elif damage == "remove":
        path.unlink()
    elif damage == "card":
        path.with_suffix(".json").write_text("{")
    else:
        path.with_suffix(".json").write_text(json.dumps({"id": "x"}))
    read = embedded.load if kind == "data" else embedded.teacher_path
    with pytest.raises(InvalidDataError, match=r"Reinstall|rebuild"):
        read(f"embedded/{name}", copy)
