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
    most_useful_episodes,
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


def test_moment_sums_are_in_units_of_the_target():
    target = Standardizer(np.array([1.0, -2.0]), np.array([2.0, 0.5]))
    (row,) = moment_sums([np.array([[3.0, -2.0], [1.0, -1.0]])], target)
    np.testing.assert_allclose(row, [1.0, 2.0, 1.0, 4.0])


def test_a_hidden_subset_of_episodes_is_matched():
    rng = np.random.default_rng(0)
    candidates = episodes(rng, 300)
    hidden = np.concatenate(candidates[:60])
    target = Standardizer(hidden.mean(0), hidden.std(0))
    lengths = np.array([len(episode) for episode in candidates])
    chosen = select(moment_sums(candidates, target), lengths, len(hidden))
    selected = np.concatenate([candidates[i] for i in chosen])
    assert abs(len(selected) / len(hidden) - 1) < 0.02
    assert np.abs((selected.mean(0) - target.mean) / target.std).max() < 0.03
    np.testing.assert_allclose(selected.std(0) / target.std, 1, atol=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_no_single_change_improves_the_selection(seed):
    """And on a dozen episodes it is near the best of all subsets."""
    rng = np.random.default_rng(seed)
    candidates = episodes(rng, 12, width=2)
    lengths = np.array([len(episode) for episode in candidates])
    size = int(lengths.sum() // 2)
    sums = moment_sums(candidates, Standardizer(np.zeros(2), np.ones(2)))
    chosen = select(sums, lengths, size)
    selected_objective = objective(sums, lengths, chosen, size)
    for flipped in combinations(range(-1, 12), 2):
        other = np.setxor1d(chosen, [episode for episode in flipped if episode >= 0])
        assert objective(sums, lengths, other, size) >= selected_objective - 2e-6
    all_objectives = [
        objective(sums, lengths, np.flatnonzero(subset), size)
        for subset in product([False, True], repeat=12)
    ]
    assert np.mean(np.array(all_objectives) < selected_objective - 1e-9) < 0.02


def test_a_teacher_without_noise_acts_by_its_mean(toy_teacher):
    rng = np.random.default_rng(0)
    noise = Disturbance.low_noise(4, toy_teacher.action_size, rng)
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
        duration=np.full(slots, 5.0),
        temperature=np.zeros(slots),
        gain=np.zeros(slots),
        offset=np.zeros((slots, size)),
    )
    act = DisturbedTeacher(toy_teacher, noise, rng)
    observations = np.zeros((slots, toy_teacher.observation_size))
    actions = np.stack([act(observations, np.arange(slots)) for _ in range(steps)])
    is_random = (actions != 0).any(axis=2)
    assert abs(is_random[100:].mean() - 0.3) < 0.01
    starts = is_random[1:] & ~is_random[:-1]
    assert abs(is_random[1:].sum() / starts.sum() - 5.0) < 0.25
    repeated = is_random[1:] & is_random[:-1]
    np.testing.assert_array_equal(actions[1:][repeated], actions[:-1][repeated])
    assert abs(actions[is_random].std() - 1 / np.sqrt(3)) < 0.01


def test_with_duration_1_every_random_action_is_new(toy_teacher):
    rng = np.random.default_rng(1)
    noise = Disturbance.draw(50, toy_teacher.action_size, rng)
    noise.random[:], noise.duration[:] = 0.99, 1.0
    act = DisturbedTeacher(toy_teacher, noise, rng)
    observations = np.zeros((50, toy_teacher.observation_size))
    actions = np.stack([act(observations, np.arange(50)) for _ in range(20)])
    assert (np.abs(np.diff(actions, axis=0)) > 0).all()
    assert np.abs(actions).max() <= 1


def test_draws_are_within_bounds_and_repeatable():
    first, second = (Disturbance.draw(5000, 3, np.random.default_rng(4)) for _ in range(2))
    for name in ("random", "duration", "temperature", "gain", "offset"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.random.min() == 0
    assert 0.9 < first.random.max() <= 0.99
    assert first.duration.min() == 1
    assert first.duration.max() <= 20
    assert 0.3 < np.mean(first.random == 0) < 0.5


def test_the_most_useful_episodes_are_the_rare_ones():
    """Nearly all episodes lie left of the target mean; more of the few on the right would help."""
    rng = np.random.default_rng(0)
    candidates = [rng.normal(-1 if i < 95 else 2, 0.5, (20, 1)) for i in range(100)]
    sums = moment_sums(candidates, Standardizer(np.zeros(1), np.ones(1)))
    target = most_useful_episodes(sums, np.full(100, 20), 1000, 5)
    assert sorted(target) == [95, 96, 97, 98, 99]


def test_rows_and_stack_undo_each_other():
    noise = Disturbance.draw(6, 3, np.random.default_rng(0))
    again = Disturbance.stack([noise.row(slot) for slot in range(6)])
    assert len(again) == 6
    for name in ("random", "duration", "temperature", "gain", "offset"):
        np.testing.assert_array_equal(getattr(again, name), getattr(noise, name))
