"""Objectives: their values by hand, their weights, their settings."""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.gaussian_density import gaussian_log_density

from obdbench.datasets.dataset import Dataset, Standardizer
from obdbench.distillation.state_sources.smoothed import smooth_states
from obdbench.errors import ObdError
from obdbench.objectives.objective import Batch, Columns, Objective, make_objective
from obdbench.objectives.pbc import PBC
from obdbench.objectives.q_pbc import Critic, action_spread, critic_sensitivity
from obdbench.objectives.sdw import density_weight
from obdbench.registry import objectives
from obdbench.teachers.teacher import Teacher

RNG = np.random.default_rng(0)
DISTILLED = ["dbc", "pbc", "av-pbc", "sdw", "q-pbc"]


@pytest.fixture(autouse=True)
def _closed_form_density(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "obdbench.objectives.sdw.log_density", lambda d: gaussian_log_density(d.states, d.states)
    )


def batch_of(columns: Columns, dataset: Dataset, rows: list[int], seeds: int = 2) -> Batch:
    own = {
        "states": torch.from_numpy(dataset.states),
        "actions": torch.from_numpy(dataset.actions),
        **columns,
    }
    return Batch(
        {name: column[rows].expand(seeds, *column[rows].shape) for name, column in own.items()}
    )


def test_dbc_by_hand(toy_dataset: Dataset) -> None:
    actions = torch.zeros(2, 3, 3)
    expected = np.square(toy_dataset.actions[[0, 4, 9]]).mean()
    loss = make_objective("dbc").loss(actions, batch_of({}, toy_dataset, [0, 4, 9]))
    assert loss.shape == (2,)
    assert np.allclose(loss, expected)


def test_pbc_by_hand(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    objective = make_objective("pbc")
    columns = objective.prepare(toy_dataset, toy_teacher, RNG)
    expected = np.square(toy_teacher.act(toy_dataset.observations[[1, 2]])).mean()
    loss = objective.loss(torch.zeros(2, 2, 3), batch_of(columns, toy_dataset, [1, 2]))
    assert np.allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_q_pbc_by_hand(toy_dataset: Dataset, toy_teacher: Teacher, noise: float) -> None:
    """The critic and the spread of actions are measured on states without noise."""
    dataset = smooth_states(toy_dataset, noise)
    objective = make_objective("q-pbc", {"value_weight": 3.0})
    columns = objective.prepare(dataset, toy_teacher, RNG)
    rows, observations = [1, 2], dataset.observations[[1, 2]]
    targets = toy_teacher.act(observations)
    actions = np.array([[0.5, -0.2, 0.1], [0.9, 0.0, -0.7]], np.float32)
    value, best = toy_teacher.value(observations, actions), toy_teacher.value(observations, targets)
    lost = np.maximum(best - value, 0)
    distance = np.square(actions - targets).mean(-1)
    sensitivity = critic_sensitivity(toy_teacher, toy_dataset)
    weight = 3 * action_spread(toy_teacher, toy_dataset) / sensitivity
    loss = objective.loss(
        torch.from_numpy(actions).expand(2, 2, 3), batch_of(columns, dataset, rows)
    )
    assert loss.tolist() == pytest.approx([(distance + weight * lost).mean()] * 2, rel=1e-4)


def test_q_pbc_terms_are_equal_for_white_noise(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    """With noise of 0.3 on the teacher's actions, the weight multiplies PBC by 1 + λ ρ."""
    rows = list(range(len(toy_dataset)))
    targets = toy_teacher.act(toy_dataset.observations)
    noise = 0.3 * np.random.default_rng(5).standard_normal(targets.shape)
    actions = torch.from_numpy(np.clip(targets + noise, -1, 1).astype(np.float32))[None]
    losses = []
    for objective in (make_objective("q-pbc", {"value_weight": 2.0}), make_objective("pbc")):
        columns = objective.prepare(toy_dataset, toy_teacher, RNG)
        batch = batch_of(columns, toy_dataset, rows, seeds=1)
        losses.append(float(objective.loss(actions, batch)))
    spread = action_spread(toy_teacher, toy_dataset)
    assert losses[0] / losses[1] == pytest.approx(1 + 2 * spread, rel=0.1)


def test_q_pbc_gives_no_reward_for_higher_values(
    toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    """Where the critic prefers the student's action, the loss is that of PBC."""
    objective, rows = make_objective("q-pbc"), list(range(len(toy_dataset)))
    columns = objective.prepare(toy_dataset, toy_teacher, RNG)
    candidates = np.random.default_rng(6).uniform(-1, 1, (50, len(rows), 3)).astype(np.float32)
    values = [toy_teacher.value(toy_dataset.observations, actions) for actions in candidates]
    actions = candidates[np.argmax(values, axis=0), rows]
    better = toy_teacher.value(toy_dataset.observations, actions) > columns["teacher_q"].numpy()
    assert better.any()
    kept = [row for row in rows if better[row]]
    batch = batch_of(columns, toy_dataset, kept, seeds=1)
    distance = np.square(actions[kept] - columns["teacher_actions"].numpy()[kept]).mean()
    loss = objective.loss(torch.from_numpy(actions[kept])[None], batch)
    assert float(loss) == pytest.approx(distance, rel=1e-5)


def test_spread_of_actions(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    targets = toy_teacher.act(toy_dataset.observations)
    noise = np.random.default_rng(7).uniform(-1, 1, targets.shape).astype(np.float32)
    spreads = []
    for scale in (0.0, 0.01, 0.02):
        actions = 0.97 * targets + scale * noise
        spreads.append(action_spread(toy_teacher, replace(toy_dataset, actions=actions)))
    size = np.square(targets).mean() / targets.var(axis=0).mean()
    assert spreads[0] == pytest.approx(0.03**2 * size, rel=1e-2)
    assert spreads[2] - spreads[0] == pytest.approx(4 * (spreads[1] - spreads[0]), rel=0.1)
    far = replace(toy_dataset, actions=np.sign(-targets))
    assert action_spread(toy_teacher, far) == 1


def test_q_pbc_refuses_a_critic_without_actions(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    constant = tuple(
        (*critic[:-1], (torch.zeros_like(critic[-1][0]), critic[-1][1]))
        for critic in toy_teacher.critics
    )
    with pytest.raises(ObdError, match="does not depend on the action"):
        make_objective("q-pbc").prepare(toy_dataset, replace(toy_teacher, critics=constant), RNG)


def test_q_pbc_in_units_of_the_teacher(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    """The critic's inputs are those of the teacher where its moments are other ones."""
    moments = toy_teacher.standardizer
    other = replace(
        toy_teacher, standardizer=Standardizer(moments.mean + 0.5, 2 * moments.std + 0.1)
    )
    actions = torch.zeros(1, 20, 3)
    values = Critic(other, toy_dataset)(torch.from_numpy(toy_dataset.states[:20]), actions)
    expected = other.value(toy_dataset.observations[:20], np.zeros((20, 3), np.float32))
    assert np.allclose(values[0], expected, rtol=1e-3, atol=1e-4)


def test_pbc_with_sampled_teacher(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    objective = make_objective("pbc", {"sample_teacher": True})
    assert tuple(objective.noise_columns) == ("teacher_noise",)
    columns = objective.prepare(toy_dataset, toy_teacher, RNG)
    rows = [3, 5]
    columns["teacher_noise"] = torch.zeros(len(toy_dataset), 3)
    still = objective.loss(torch.zeros(2, 2, 3), batch_of(columns, toy_dataset, rows))
    assert np.allclose(
        still, np.square(toy_teacher.act(toy_dataset.observations[rows])).mean(), rtol=1e-5
    )
    columns["teacher_noise"] = torch.ones(len(toy_dataset), 3)
    mean, std = toy_teacher.distribution(toy_dataset.observations[rows])
    moved = objective.loss(torch.zeros(2, 2, 3), batch_of(columns, toy_dataset, rows))
    assert torch.allclose(moved, torch.tanh(mean + std).square().mean().expand(2), rtol=1e-5)


def test_av_pbc_weight_is_beta_q_clamped_at_zero(
    toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    columns = make_objective("av-pbc").prepare(toy_dataset, toy_teacher, RNG)
    obs = toy_dataset.observations
    q = toy_teacher.value(obs, toy_teacher.act(obs))
    assert (q < 0).any(), "the fixture must exercise the clamp"
    assert (q > 0).any()
    assert np.allclose(columns["weight"], 0.02 * np.maximum(q, 0), atol=1e-6)


def shifted(dataset: Dataset, teacher: Teacher, share: float) -> Teacher:
    """The teacher with its values moved down until this share of them is below zero."""
    obs = dataset.observations
    q = teacher.value(obs, teacher.act(obs))
    moved = tuple(
        (*layers[:-1], (layers[-1][0], layers[-1][1] - float(np.quantile(q, share)) - 1e-3))
        for layers in teacher.critics
    )
    return replace(teacher, critics=moved)


@pytest.mark.parametrize("normalization", ["none", "mean-one"])
@pytest.mark.parametrize("name", ["av-pbc", "sdw"])
def test_a_teacher_that_values_nothing_is_one_clear_error(
    name: str, normalization: str, toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    objective = make_objective(name, {"weight_normalization": normalization})
    with pytest.raises(ObdError, match=name) as caught:
        objective.prepare(toy_dataset, shifted(toy_dataset, toy_teacher, 1.0), RNG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("share", "n_warnings"), [(0.4, 0), (0.75, 1)])
def test_a_teacher_with_few_nonzero_weights_is_warned_about(
    share: float,
    n_warnings: int,
    toy_dataset: Dataset,
    toy_teacher: Teacher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        make_objective("av-pbc").prepare(toy_dataset, shifted(toy_dataset, toy_teacher, share), RNG)
    assert [record.message.count("75%") for record in caplog.records] == [1] * n_warnings


def test_weights_scale_the_loss(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    rows = [0, 1, 2, 3]
    actions = torch.full((2, 4, 3), 0.1)
    plain, weighted = make_objective("pbc"), make_objective("av-pbc")
    columns = weighted.prepare(toy_dataset, toy_teacher, RNG)
    distance = (actions[0] - columns["teacher_actions"][rows]).square().mean(-1)
    expected = (columns["weight"][rows] * distance).mean()
    loss = weighted.loss(actions, batch_of(columns, toy_dataset, rows))
    assert torch.allclose(loss, expected.expand(2))
    base = plain.loss(
        actions, batch_of(plain.prepare(toy_dataset, toy_teacher, RNG), toy_dataset, rows)
    )
    assert not torch.allclose(loss, base)


@pytest.mark.parametrize("name", ["av-pbc", "sdw"])
def test_mean_one(name: str, toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    raw = make_objective(name).prepare(toy_dataset, toy_teacher, RNG)["weight"]
    normalized = make_objective(name, {"weight_normalization": "mean-one"}).prepare(
        toy_dataset, toy_teacher, RNG
    )["weight"]
    assert abs(normalized.mean().item() - 1) < 1e-5
    assert torch.allclose(normalized * raw.mean(), raw, rtol=1e-4)


def test_density_weight_formula() -> None:
    log_d = torch.tensor([-50.0, -2.0, 0.0, 3.0])
    raw = density_weight(log_d, tau=0.5, floor_quantile=0.0, normalization="none")
    assert torch.allclose(raw, (-0.5 * log_d).exp(), rtol=1e-5)
    normalized = density_weight(log_d, tau=0.5, floor_quantile=0.0, normalization="mean-one")
    assert torch.allclose(normalized, raw / raw.mean(), rtol=1e-5)


def test_density_weight_floor_and_extremes() -> None:
    log_d = torch.cat([torch.tensor([-torch.inf, -1e5]), torch.linspace(-5, 5, 98)])
    weight = density_weight(log_d, tau=1.0, floor_quantile=0.05, normalization="mean-one")
    assert torch.isfinite(weight).all()
    assert weight[0] == weight[1] == weight.max()
    assert density_weight(log_d, tau=0.0, floor_quantile=0.0, normalization="mean-one").eq(1).all()


def test_sdw_base(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    av = make_objective("av-pbc").prepare(toy_dataset, toy_teacher, RNG)["weight"]
    sdw = make_objective("sdw").prepare(toy_dataset, toy_teacher, RNG)["weight"]
    pure = make_objective("sdw", {"base": "pbc"}).prepare(toy_dataset, toy_teacher, RNG)["weight"]
    assert torch.allclose(sdw, av * pure, rtol=1e-5)
    rare = gaussian_log_density(toy_dataset.states, toy_dataset.states).argmin()
    assert pure.argmax() == rare or pure[rare] == pure.max()


@pytest.mark.parametrize("name", ["random", *DISTILLED])
def test_settings_round_trip_through_json(name: str) -> None:
    objective = make_objective(name)
    again = make_objective(name, json.loads(json.dumps(objective.settings())))
    assert again.settings() == objective.settings()


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("av-pb", {}, "av-pbc"),
        ("av-pbc", {"bta": 1.0}, "beta"),
        ("av-pbc", {"beta": -1.0}, "beta"),
        ("av-pbc", {"weight_normalization": "meanone"}, "mean-one"),
        ("sdw", {"tau": -0.1}, "tau"),
        ("sdw", {"base": "dbc"}, "pbc"),
        ("sdw", {"floor_quantile": 0.9}, "floor_quantile"),
    ],
)
def test_wrong_settings_are_one_clear_line(
    name: str, params: dict[str, object], words: str
) -> None:
    with pytest.raises(ObdError, match=words) as caught:
        make_objective(name, params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["pbc", "av-pbc", "sdw"])
def test_a_missing_teacher_is_named(name: str, toy_dataset: Dataset) -> None:
    with pytest.raises(ObdError, match="teacher"):
        make_objective(name).prepare(toy_dataset, None, RNG)


def test_an_objective_without_loss_says_so() -> None:
    class Empty(Objective):
        name = "empty"

    with pytest.raises(NotImplementedError, match="Empty"):
        Empty().loss(torch.zeros(1, 1, 1), Batch({}))


def test_batch_names_its_columns() -> None:
    with pytest.raises(AttributeError, match="weight"):
        _ = Batch({"weight": torch.zeros(1)}).wieght


def test_batch_can_be_copied() -> None:
    batch = Batch({"weight": torch.ones(2)})
    assert copy.copy(batch).columns is batch.columns
    assert torch.equal(copy.deepcopy(batch).weight, batch.weight)


def test_q_pbc_follows_a_change_of_teacher(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    scaled = replace(
        toy_teacher,
        critics=tuple(
            (*critic[:-1], (3 * critic[-1][0], critic[-1][1])) for critic in toy_teacher.critics
        ),
    )
    used, fresh = make_objective("q-pbc"), make_objective("q-pbc")
    used.prepare(toy_dataset, toy_teacher, RNG)
    rows = list(range(len(toy_dataset)))
    actions = torch.zeros(2, len(rows), toy_dataset.action_size)
    losses = [
        objective.loss(
            actions, batch_of(objective.prepare(toy_dataset, scaled, RNG), toy_dataset, rows)
        )
        for objective in (used, fresh)
    ]
    assert torch.equal(*losses)


def test_a_derived_objective_has_its_registered_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Derived(PBC):
        """Without a name of its own."""

    monkeypatch.setattr(objectives, "get", lambda name: Derived)
    assert make_objective("my-pbc").name == "my-pbc"
    assert PBC.name == "pbc"
