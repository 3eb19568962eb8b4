"""The disturbances and the selection, without any environment."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from obdbench.collection.mixture import (
    SIZE_WEIGHT,
    Disturbance,
    DisturbedTeacher,
    moment_sums,
    most_wanted,
    select,
)
from obdbench.datasets.dataset import Standardizer


def episodes(rng, count: int, width: int = 5) -> list[np.ndarray]:
    """Episodes around different centres, of different spreads and lengths."""
    return [
        rng.normal(rng.normal(0, 2, width), rng.uniform(0.1, 2), (int(rng.integers(5, 60)), width))
        for _ in range(count)
    ]


def objective(sums, lengths, chosen, size) -> float:
    half = sums.shape[1] // 2
    total = sums[chosen].sum(0) / size
    error = np.square(total - np.r_[np.zeros(half), np.ones(half)]).sum()
    return float(error + SIZE_WEIGHT * (lengths[chosen].sum() / size - 1) ** 2)


def test_moment_sums_are_in_units_of_the_wanted():
    wanted = Standardizer(np.array([1.0, -2.0]), np.array([2.0, 0.5]))
    (row,) = moment_sums([np.array([[3.0, -2.0], [1.0, -1.0]])], wanted)
    np.testing.assert_allclose(row, [1.0, 2.0, 1.0, 4.0])


def test_a_hidden_subset_of_episodes_is_matched():
    rng = np.random.default_rng(0)
    pool = episodes(rng, 300)
    hidden = np.concatenate(pool[:60])
    wanted = Standardizer(hidden.mean(0), hidden.std(0))
    lengths = np.array([len(episode) for episode in pool])
    chosen = select(moment_sums(pool, wanted), lengths, len(hidden))
    found = np.concatenate([pool[i] for i in chosen])
    assert abs(len(found) / len(hidden) - 1) < 0.02
    assert np.abs((found.mean(0) - wanted.mean) / wanted.std).max() < 0.03
    np.testing.assert_allclose(found.std(0) / wanted.std, 1, atol=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_no_single_change_improves_the_selection(seed):
    """And on a dozen episodes it is near the best of all subsets."""
    rng = np.random.default_rng(seed)
    pool = episodes(rng, 12, width=2)
    lengths = np.array([len(episode) for episode in pool])
    size = int(lengths.sum() // 2)
    sums = moment_sums(pool, Standardizer(np.zeros(2), np.ones(2)))
    chosen = select(sums, lengths, size)
    reached = objective(sums, lengths, chosen, size)
    for flipped in combinations(range(-1, 12), 2):
        other = np.setxor1d(chosen, [episode for episode in flipped if episode >= 0])
        assert objective(sums, lengths, other, size) >= reached - 2e-6
    everything = [
        objective(sums, lengths, np.flatnonzero(subset), size)
        for subset in product([False, True], repeat=12)
    ]
    assert np.mean(np.array(everything) < reached - 1e-9) < 0.02


def test_undisturbed_calm_teacher_acts_by_its_mean(toy_teacher):
    rng = np.random.default_rng(0)
    noise = Disturbance.calm(4, toy_teacher.action_size, rng)
    noise.temperature[:] = 0
    act = DisturbedTeacher(toy_teacher, noise, rng)
    observations = rng.normal(size=(4, toy_teacher.observation_size))
    np.testing.assert_allclose(
        act(observations, np.arange(4)), toy_teacher.act(observations), atol=1e-6
    )


def test_random_actions_have_their_share_and_duration(toy_teacher):
    rng = np.random.default_rng(0)
    slots, steps, size = 400, 600, toy_teacher.action_size
    noise = Disturbance(
        random=np.full(slots, 0.3),
        hold=np.full(slots, 5.0),
        temperature=np.zeros(slots),
        gain=np.zeros(slots),
        offset=np.zeros((slots, size)),
    )
    act = DisturbedTeacher(toy_teacher, noise, rng)
    observations = np.zeros((slots, toy_teacher.observation_size))
    taken = np.stack([act(observations, np.arange(slots)) for _ in range(steps)])
    is_random = (taken != 0).any(axis=2)
    assert abs(is_random[100:].mean() - 0.3) < 0.01
    starts = is_random[1:] & ~is_random[:-1]
    assert abs(is_random[1:].sum() / starts.sum() - 5.0) < 0.25
    held = is_random[1:] & is_random[:-1]
    np.testing.assert_array_equal(taken[1:][held], taken[:-1][held])
    assert abs(taken[is_random].std() - 1 / np.sqrt(3)) < 0.01


def test_without_holding_every_random_action_is_fresh(toy_teacher):
    rng = np.random.default_rng(1)
    noise = Disturbance.draw(50, toy_teacher.action_size, rng)
    noise.random[:], noise.hold[:] = 0.99, 1.0
    act = DisturbedTeacher(toy_teacher, noise, rng)
    observations = np.zeros((50, toy_teacher.observation_size))
    taken = np.stack([act(observations, np.arange(50)) for _ in range(20)])
    assert (np.abs(np.diff(taken, axis=0)) > 0).all()
    assert np.abs(taken).max() <= 1


def test_draws_are_within_bounds_and_repeatable():
    one, two = (Disturbance.draw(5000, 3, np.random.default_rng(4)) for _ in range(2))
    for name in ("random", "hold", "temperature", "gain", "offset"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.random.min() == 0
    assert 0.9 < one.random.max() <= 0.99
    assert one.hold.min() == 1
    assert one.hold.max() <= 20
    assert 0.3 < np.mean(one.random == 0) < 0.5


def test_the_episodes_most_wanted_are_those_that_are_missing():
    """Nearly all episodes lie left of the wanted mean; of the few on the right more is wanted."""
    rng = np.random.default_rng(0)
    pool = [rng.normal(-1 if i < 95 else 2, 0.5, (20, 1)) for i in range(100)]
    sums = moment_sums(pool, Standardizer(np.zeros(1), np.ones(1)))
    wanted = most_wanted(sums, np.full(100, 20), 1000, 5)
    assert sorted(wanted) == [95, 96, 97, 98, 99]


def test_rows_and_stack_undo_each_other():
    noise = Disturbance.draw(6, 3, np.random.default_rng(0))
    again = Disturbance.stack([noise.row(slot) for slot in range(6)])
    assert len(again) == 6
    for name in ("random", "hold", "temperature", "gain", "offset"):
        np.testing.assert_array_equal(getattr(again, name), getattr(noise, name))
