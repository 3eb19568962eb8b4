"""Selection methods: what each chooses on data where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.datasets.dataset import Dataset, episode_numbers, time_steps
from obdbench.errors import InvalidDataError, InvalidSettingError, UnknownNameError
from obdbench.objectives.objective import make_objective
from obdbench.registry import objectives, selections
from obdbench.selection.gradient_matching_pursuit import cloning_gradients, pursue
from obdbench.selection.selection_method import (
    SelectionMethod,
    make_selection,
    select_rows,
)
from obdbench.selection.stepwise_dual_ranking import rank_by_step
from obdbench.selection.undistilled import SelectedPairs, select_pairs


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_toy_dataset(2000)


@pytest.fixture(scope="module")
def teacher(dataset):
    return make_toy_teacher(dataset)


@pytest.fixture(autouse=True)
def fast_density(monkeypatch):
    """A density that is known, in place of the flow."""
    monkeypatch.setattr(
        "obdbench.selection.stepwise_dual_ranking.log_density",
        lambda dataset: -np.square(dataset.states).sum(axis=1),
    )


@pytest.mark.parametrize("name", ["random", "kmeans++", "top-q", "top-return", "sdr", "omp"])
def test_every_method_returns_distinct_rows_that_its_generator_fixes(name, dataset, teacher):
    method = make_selection(name)
    rows = select_rows(method, dataset, teacher, 32, np.random.default_rng(1))
    again = select_rows(method, dataset, teacher, 32, np.random.default_rng(1))
    other = select_rows(method, dataset, teacher, 32, np.random.default_rng(2))
    assert len(np.unique(rows)) == 32
    assert np.array_equal(rows, again)
    assert not np.array_equal(rows, other)


def test_top_value_draws_from_the_best_tenth(dataset, teacher):
    rows = make_selection("top-q").select(dataset, teacher, 50, np.random.default_rng(0))
    values = teacher.value(dataset.observations, dataset.actions)
    assert values[rows].min() >= np.sort(values)[-200]


def test_top_return_draws_from_the_best_episodes(dataset):
    rows = make_selection("top-return").select(dataset, None, 50, np.random.default_rng(0))
    returns = dataset.rewards.reshape(-1, 50).sum(axis=1)
    best = set(np.argsort(-returns)[:5])  # 40 episodes of 50 steps; a tenth and one more at most
    assert set(rows // 50) <= best


def test_kmeans_plus_plus_covers_every_cluster(dataset):
    observations = np.zeros_like(dataset.observations)
    observations[:, 0] = np.repeat(np.arange(4), 500) * 100.0
    observations[:, 0] += np.random.default_rng(0).normal(size=2000) * 0.01
    clusters = replace(dataset, observations=observations.astype(np.float32))
    rows = make_selection("kmeans++").select(clusters, None, 4, np.random.default_rng(0))
    assert set(rows // 500) == {0, 1, 2, 3}


def test_stepwise_dual_ranking_equals_its_definition_written_out():
    rng = np.random.default_rng(4)
    steps, values, densities = (
        np.tile(np.arange(120), 30),
        rng.normal(size=3600),
        rng.normal(size=3600),
    )
    kept = rank_by_step(steps, values, densities, 0.2, 0.3)
    for row in range(0, 3600, 7):
        group = steps == steps[row]
        low = np.quantile(values[group], 0.2 * np.tanh(steps[row] / 100))
        high = np.quantile(densities[group], 1 - 0.3 * np.tanh(steps[row] / 100))
        assert kept[row] == (values[row] >= low and densities[row] <= high)
    assert kept[steps == 0].all()


def test_sdr_says_when_too_little_is_left(dataset, teacher):
    method = make_selection("sdr", {"lambda_1": 1.0, "lambda_2": 1.0})
    with pytest.raises(InvalidDataError):
        method.select(dataset, teacher, 1900, np.random.default_rng(0))


def test_matching_pursuit_recovers_a_sparse_combination():
    """The mean of rows that lie in the span of three of them needs those three alone."""
    rng = np.random.default_rng(0)
    basis = np.eye(8)[:3] * 10.0
    noise = rng.normal(size=(40, 8)) * 0.01
    noise -= noise.mean(axis=0)
    rows = np.concatenate([basis, noise])
    assert set(pursue(rows, 3)) == {0, 1, 2}


def test_matching_pursuit_lowers_the_residual_as_least_squares_does():
    rows = np.random.default_rng(1).normal(size=(60, 30))
    chosen = pursue(rows, 10)
    target = rows.mean(axis=0)
    residuals = []
    for count in range(1, 11):
        part = rows[chosen[:count]].T
        weights = np.linalg.lstsq(part, target, rcond=None)[0]
        residual = target - part @ weights
        residuals.append(np.linalg.norm(residual))
        if count < 10:
            scores = np.abs(rows @ residual)
            scores[chosen[:count]] = -1
            assert chosen[count] == int(np.argmax(scores))
    assert residuals == sorted(residuals, reverse=True)


def test_cloning_gradients_equal_autograd(dataset):
    import torch

    from obdbench.policies.networks import MLP4, seeded_generator

    states, actions = dataset.states[:3], dataset.actions[:3]
    params = MLP4.init([seeded_generator(7, 1)], states.shape[1], actions.shape[1])
    params["w3"].requires_grad_()
    predicted = torch.tanh(MLP4.apply(params, torch.from_numpy(states))[0])[0]
    loss = (predicted[1] - torch.from_numpy(actions)[1]).square().mean()
    expected = torch.autograd.grad(loss, params["w3"])[0][0, : actions.shape[1]]
    gradients = cloning_gradients(states, actions, 7)[1].reshape(actions.shape[1], -1)[:, :-1]
    assert np.allclose(gradients, expected.numpy(), atol=1e-6)


def test_episodes_end_at_terminals_timeouts_and_jumps(dataset):
    following = np.roll(dataset.observations, -1, axis=0)
    following[24] += 1.0
    timeouts = np.zeros(len(dataset), dtype=bool)
    timeouts[9] = True
    data = replace(dataset, next_observations=following, timeouts=timeouts)
    assert episode_numbers(data)[[0, 9, 10, 24, 25, 49, 50]].tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert time_steps(data)[[0, 9, 10, 24, 25, 50]].tolist() == [0, 9, 0, 14, 0, 0]


def test_every_selection_method_is_an_undistilled_objective(dataset, teacher):
    assert set(selections.names()) <= set(objectives.names())
    for labels in ("data", "teacher"):
        objective = make_objective("kmeans++", {"labels": labels})
        assert isinstance(objective, SelectedPairs)
        assert not objective.distills
        assert objective.uses_teacher == (labels == "teacher")
        rng = np.random.default_rng(3)
        states, actions = select_pairs(objective.method, objective.labels, dataset, teacher, 8, rng)
        rows = make_selection("kmeans++").select(dataset, None, 8, np.random.default_rng(3))
        expected = dataset.actions if labels == "data" else teacher.act(dataset.observations)
        assert np.array_equal(states, dataset.states[rows])
        assert np.allclose(actions, expected[rows], atol=1e-6)


def test_settings_of_the_method_are_settings_of_the_row():
    objective = make_objective("sdr", {"labels": "teacher", "lambda_1": 0.2})
    assert objective.settings() == {"labels": "teacher", "lambda_1": 0.2, "lambda_2": 0.25}
    assert objective.name == "sdr"


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"labels": "mine"}, UnknownNameError),
        ({"lambda_3": 0.1}, UnknownNameError),
        ({"lambda_1": 2.0}, InvalidSettingError),
    ],
)
def test_bad_settings_are_refused(params, error):
    with pytest.raises(error):
        make_objective("sdr", params)


def test_a_method_without_a_teacher_that_needs_one_is_refused(dataset):
    with pytest.raises(InvalidSettingError):
        make_selection("top-q").select(dataset, None, 4, np.random.default_rng(0))


class RepeatsOneRow(SelectionMethod):
    name = "repeats"

    def select(self, dataset, teacher, pairs, rng):
        return np.zeros(pairs, dtype=np.int64)


def test_repeated_rows_are_refused(dataset):
    with pytest.raises(InvalidDataError):
        select_rows(RepeatsOneRow(), dataset, None, 4, np.random.default_rng(0))
    with pytest.raises(InvalidSettingError):
        select_rows(RepeatsOneRow(), dataset, None, 4000, np.random.default_rng(0))
