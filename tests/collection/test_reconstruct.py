"""Stand-ins: small ones from toy teachers, a real one where the mirror is."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from obdbench.collection import pool, reconstruct
from obdbench.datasets.dataset import Dataset, Standardizer
from obdbench.datasets.loading import load_dataset
from obdbench.datasets.references import moments_of
from obdbench.errors import InvalidDataError, UnknownNameError
from obdbench.registry import D4RL_NAMES
from obdbench.tasks.rollout import Episodes, run_episodes
from obdbench.tasks.task import TASKS
from obdbench.teachers import published

NAME = "hopper-medium-v2"
SIZES = {"size": 600, "pool": 3000}


@pytest.fixture
def small(monkeypatch, tmp_path, toy_teacher):
    """A toy teacher, moments that rollouts of it have, small pools, an empty cache."""
    teacher = dataclasses.replace(toy_teacher, standardizer=moments_of(NAME))
    run = run_episodes(lambda o, _: teacher.act(o), TASKS["hopper"], range(40), record=True)
    wanted = Standardizer.fit(np.concatenate(run.observations))
    monkeypatch.setattr(published, "load_published_teacher", lambda name: teacher)
    monkeypatch.setattr(reconstruct, "moments_of", lambda name: wanted)
    monkeypatch.setattr(pool, "CALM_SLOTS", 4)
    monkeypatch.setattr(pool, "LIMPING_SLOTS", 4)
    monkeypatch.setattr(pool, "DISTURBED_SLOTS", 8)
    monkeypatch.setattr(pool, "REPEATED_SLOTS", 12)
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))


def test_built_the_same_twice(small):
    one, two = (reconstruct.build(NAME, **SIZES) for _ in range(2))
    assert one.checksum == two.checksum
    assert one.card == two.card


def test_what_is_built_is_a_recording(small):
    dataset = reconstruct.build(NAME, **SIZES)
    assert isinstance(dataset, Dataset)
    assert dataset.is_stand_in
    assert 0.97 * 600 <= len(dataset) <= 600
    ends = dataset.terminals | dataset.timeouts
    assert ends[-1]
    assert not (dataset.terminals & dataset.timeouts).any()
    inside = ~ends[:-1]
    np.testing.assert_array_equal(
        dataset.next_observations[:-1][inside], dataset.observations[1:][inside]
    )
    assert np.abs(dataset.actions).max() <= 1
    card = dataset.card
    assert card["stand_in_for"] == f"d4rl/{NAME}"
    reached = reconstruct.agreement(dataset.observations, reconstruct.moments_of(NAME))
    assert {name: card[name] for name in reached} == reached
    assert card["mean_error"] < 0.2
    assert card["episodes"] + card["interrupted"] == ends.sum()
    assert card["episodes"] == len(dataset.episode_returns())


def test_kept_in_the_cache_and_read_back(small, monkeypatch):
    build = reconstruct.build
    calls: list[str] = []

    def counted(name):
        calls.append(name)
        return build(name, **SIZES)

    monkeypatch.setattr(reconstruct, "build", counted)
    first = load_dataset(f"recon/{NAME}")
    again = load_dataset(f"recon/{NAME}")
    assert calls == [NAME]
    assert first.checksum == again.checksum
    assert dict(first.card) == dict(again.card)
    np.testing.assert_array_equal(first.timeouts, again.timeouts)
    reconstruct.load(f"recon/{NAME}", force=True)
    assert calls == [NAME] * 2


def test_damaged_cache_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))
    path = reconstruct.cache_path(NAME)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK" + bytes(5000))
    with pytest.raises(InvalidDataError, match="cannot be read"):
        load_dataset(f"recon/{NAME}")


def test_endless_episodes_are_parted_where_they_get_lost():
    task, wanted = TASKS["halfcheetah"], Standardizer(np.zeros(17), np.ones(17))
    observations = np.zeros((10, 17), np.float32)
    observations[6:, 1] = pool.EXCURSION + 1
    run = Episodes(
        np.zeros(1),
        np.array([10]),
        [observations],
        [np.zeros((10, 6), np.float32)],
        [np.arange(10, dtype=np.float32)],
        [np.zeros(10, bool)],
        [observations],
    )
    (_, upright), (_, lost) = pool.pieces(run, task, wanted)
    assert upright["rewards"].tolist() == [0, 1, 2, 3, 4, 5]
    assert lost["rewards"].tolist() == [6, 7, 8, 9]
    assert np.flatnonzero(upright["timeouts"]).tolist() == [5]
    assert np.flatnonzero(lost["timeouts"]).tolist() == [3]


@pytest.mark.parametrize(
    ("change", "within"),
    [
        ({}, True),
        ({"mean_error": 0.13}, False),
        ({"spread_ratio_median": 0.79}, False),
        ({"spread_ratio_smallest": 0.5}, False),
    ],
)
def test_the_goal(change, within):
    reached = {"mean_error": 0.1, "spread_ratio_median": 1.0, "spread_ratio_smallest": 0.6}
    assert reconstruct.within_goal({**reached, **change}) is within


def test_agreement_is_measured_in_genuine_spreads():
    rng = np.random.default_rng(0)
    wanted = Standardizer(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    observations = wanted.mean + wanted.std * rng.normal(size=(200_000, 2)) * [0.5, 1.0] + [0.5, 0]
    found = reconstruct.agreement(observations, wanted)
    assert found["mean_error"] == pytest.approx(0.25, abs=0.01)
    assert found["spread_ratio_smallest"] == pytest.approx(0.5, abs=0.01)
    assert found["spread_ratio_largest"] == pytest.approx(1.0, abs=0.01)


def test_wrong_names_are_answered():
    with pytest.raises(UnknownNameError, match="recon/hopper-medium-v2"):
        reconstruct.load("recon/hopper-medium-v3")


@pytest.mark.mirror
@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{name}-v2" for name in D4RL_NAMES])
def test_every_stand_in_reaches_the_goal_in_time(mirror, name):
    started = time.process_time()
    dataset = reconstruct.build(name)
    assert time.process_time() - started <= 180
    assert dataset.card["within_goal"], dict(dataset.card)
    assert len(dataset) >= 99_000
