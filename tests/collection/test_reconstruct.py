"""Stand-ins: small ones from toy teachers, a real one if the mirror is present."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from obdbench.collection import candidates, reconstruct
from obdbench.datasets.dataset import Dataset, Standardizer
from obdbench.datasets.loading import load_dataset
from obdbench.datasets.references import moments_of
from obdbench.errors import InvalidDataError, UnknownNameError
from obdbench.registry import D4RL_NAMES
from obdbench.tasks.rollout import Episodes, run_episodes
from obdbench.tasks.task import TASKS

NAME = "hopper-medium-v2"
SIZES = {"size": 600, "simulated": 3000}


@pytest.fixture
def small(monkeypatch, tmp_path, toy_teacher):
    """A toy teacher, moments that rollouts of it have, few candidates, an empty cache."""
    teacher = dataclasses.replace(toy_teacher, standardizer=moments_of(NAME))
    run = run_episodes(lambda o, _: teacher.act(o), TASKS["hopper"], range(40), record=True)
    target = Standardizer.fit(np.concatenate(run.observations))
    monkeypatch.setattr(candidates, "load_published_teacher", lambda name: teacher)
    monkeypatch.setattr(reconstruct, "moments_of", lambda name: target)
    monkeypatch.setattr(candidates, "LOW_NOISE_SLOTS", 4)
    monkeypatch.setattr(candidates, "JOINT_OFFSET_SLOTS", 4)
    monkeypatch.setattr(candidates, "DISTURBED_SLOTS", 8)
    monkeypatch.setattr(candidates, "REPEATED_SLOTS", 12)
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))


def test_equal_builds_are_equal(small):
    first, second = (reconstruct.build(NAME, **SIZES) for _ in range(2))
    assert first.checksum == second.checksum
    assert first.card == second.card


def test_a_stand_in_consists_of_recorded_episodes(small):
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


def test_a_stand_in_is_cached(small, monkeypatch):
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


def test_episodes_that_never_terminate_are_split_at_an_excursion():
    task, target = TASKS["halfcheetah"], Standardizer(np.zeros(17), np.ones(17))
    observations = np.zeros((10, 17), np.float32)
    observations[6:, 1] = candidates.EXCURSION + 1
    run = Episodes(
        np.zeros(1),
        np.array([10]),
        [observations],
        [np.zeros((10, 6), np.float32)],
        [np.arange(10, dtype=np.float32)],
        [np.zeros(10, bool)],
        [observations],
    )
    (_, upright), (_, upside_down) = candidates.split_at_excursion(run, task, target)
    assert upright["rewards"].tolist() == [0, 1, 2, 3, 4, 5]
    assert upside_down["rewards"].tolist() == [6, 7, 8, 9]
    assert np.flatnonzero(upright["timeouts"]).tolist() == [5]
    assert np.flatnonzero(upside_down["timeouts"]).tolist() == [3]


@pytest.mark.parametrize(
    ("change", "within"),
    [
        ({}, True),
        ({"mean_error": 0.13}, False),
        ({"spread_ratio_median": 0.79}, False),
        ({"spread_ratio_smallest": 0.5}, False),
    ],
)
def test_goal_of_the_agreement(change, within):
    reached = {"mean_error": 0.1, "spread_ratio_median": 1.0, "spread_ratio_smallest": 0.6}
    assert reconstruct.within_goal({**reached, **change}) is within


def test_agreement_is_measured_in_genuine_standard_deviations():
    rng = np.random.default_rng(0)
    target = Standardizer(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    observations = target.mean + target.std * rng.normal(size=(200_000, 2)) * [0.5, 1.0] + [0.5, 0]
    measured = reconstruct.agreement(observations, target)
    assert measured["mean_error"] == pytest.approx(0.25, abs=0.01)
    assert measured["spread_ratio_smallest"] == pytest.approx(0.5, abs=0.01)
    assert measured["spread_ratio_largest"] == pytest.approx(1.0, abs=0.01)


def test_unknown_names_are_refused():
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
