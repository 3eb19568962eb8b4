"""The losses of the offline RL algorithms against formulas written out, and what they learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.toys import make_toy_dataset

from obdbench.datasets.dataset import Dataset
from obdbench.errors import InvalidDataError, InvalidSettingError, UnknownNameError
from obdbench.offline_rl.algorithm import Batch, Shape
from obdbench.offline_rl.cal_ql import CalQL, CalQLSettings
from obdbench.offline_rl.iql import IQL, IQLSettings
from obdbench.offline_rl.networks import (
    apply_networks,
    apply_twin_critics,
    init_networks,
)
from obdbench.offline_rl.replay import Replay, returns_to_go
from obdbench.offline_rl.td3_bc import TD3BC, TD3BCSettings
from obdbench.offline_rl.trainer import (
    ALGORITHMS,
    TeacherTraining,
    algorithm_settings,
    train_teachers,
)
from obdbench.policies.networks import seeded_generator

SHAPE = Shape(datasets=2, observation_size=3, action_size=2)
NARROW = {"width": 16, "batch_size": 32}


def make_batch(rows: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(2, rows, *sizes, generator=generator)

    return Batch(
        states=normal(3),
        actions=torch.tanh(normal(2)),
        rewards=normal(),
        next_states=normal(3),
        continues=(normal() > 0).float(),
        returns=normal(),
        policy_actions=torch.tanh(normal(2)),
    )


def make_dataset(rows: int = 600, episode: int = 50) -> Dataset:
    base = make_toy_dataset()
    generator = np.random.default_rng(3)
    size = base.observation_size
    observations = generator.normal(size=(rows, size)).astype(np.float32)
    actions = generator.uniform(-1, 1, size=(rows, base.action_size)).astype(np.float32)
    timeouts = np.zeros(rows, dtype=bool)
    timeouts[episode - 1 :: episode] = True
    return Dataset(
        id="toy/hopper-actions",
        task=base.task,
        observations=observations,
        actions=actions,
        rewards=(-np.square(actions - 0.5).sum(axis=1)).astype(np.float32),
        terminals=np.zeros(rows, dtype=bool),
        next_observations=generator.normal(size=(rows, size)).astype(np.float32),
        timeouts=timeouts,
    )


def test_networks_equal_torch_linear_layers_one_by_one():
    params = init_networks([seeded_generator(0, i) for i in range(2)], [3, 7, 7, 2])
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    for index in range(2):
        hidden = x[index]
        for layer in range(3):
            weight, bias = params[f"w{layer}"][index], params[f"b{layer}"][index]
            hidden = torch.nn.functional.linear(hidden, weight, bias)
            hidden = torch.relu(hidden) if layer < 2 else hidden
        assert torch.allclose(apply_networks(params, x)[index], hidden, atol=1e-6)


def test_td3_bc_critic_loss_is_the_squared_td_error_of_both_critics():
    algorithm = TD3BC(SHAPE, TD3BCSettings(width=8, bfloat16=False), 0, 10)
    batch, networks = make_batch(), algorithm.networks
    noise = 0.2 * torch.randn(batch.actions.shape, generator=torch.Generator().manual_seed(5))
    next_actions = torch.tanh(apply_networks(networks["target_actor"], batch.next_states))
    next_actions = (next_actions + noise.clamp(-0.5, 0.5)).clamp(-1, 1)
    smaller = apply_twin_critics(networks["target_critics"], batch.next_states, next_actions)
    target = batch.rewards + 0.99 * batch.continues * smaller.min(dim=1).values
    values = apply_twin_critics(networks["critics"], batch.states, batch.actions)
    expected = sum(((values[:, i] - target) ** 2).mean(dim=-1) for i in range(2))
    losses = algorithm.update(batch, 1, torch.Generator().manual_seed(5))
    assert torch.allclose(losses["critic_loss"], expected.detach(), atol=1e-6)
    assert "actor_loss" not in losses


def test_td3_bc_actor_loss_normalizes_the_value_and_uses_the_first_critic():
    settings = TD3BCSettings(width=8, learning_rate=0.0, bfloat16=False)
    algorithm = TD3BC(SHAPE, settings, 0, 10)
    batch, networks = make_batch(), algorithm.networks
    actions = torch.tanh(apply_networks(networks["actor"], batch.states))
    values = apply_twin_critics(networks["critics"], batch.states, actions)[:, 0]
    cloning = ((actions - batch.actions) ** 2).mean(dim=(1, 2))
    expected = cloning - 2.5 * values.mean(dim=-1) / values.abs().mean(dim=-1)
    losses = algorithm.update(batch, 0, torch.Generator().manual_seed(5))
    assert torch.allclose(losses["actor_loss"], expected.detach(), atol=1e-5)


def test_iql_value_loss_is_the_expectile_loss():
    algorithm = IQL(SHAPE, IQLSettings(width=8, bfloat16=False), 0, 10)
    batch, networks = make_batch(), algorithm.networks
    target = apply_twin_critics(networks["target_critics"], batch.states, batch.actions)
    difference = target.min(dim=1).values - apply_networks(networks["value"], batch.states)[..., 0]
    weight = torch.where(difference > 0, 0.7, 0.3)
    expected = (weight * difference**2).mean(dim=-1)
    losses = algorithm.update(batch, 0, torch.Generator().manual_seed(5))
    assert torch.allclose(losses["value_loss"], expected.detach(), atol=1e-6)


def test_iql_actor_loss_weights_the_gaussian_log_density_by_the_advantage():
    algorithm = IQL(SHAPE, IQLSettings(width=8, learning_rate=0.0, bfloat16=False), 0, 10)
    batch, networks = make_batch(), algorithm.networks
    target = apply_twin_critics(networks["target_critics"], batch.states, batch.actions)
    advantage = target.min(dim=1).values - apply_networks(networks["value"], batch.states)[..., 0]
    mean = torch.tanh(apply_networks(networks["actor"], batch.states))
    density = torch.distributions.Normal(mean, 1.0).log_prob(batch.actions).sum(dim=-1)
    density = density + np.log(2 * np.pi)  # the constant of two action dimensions is left out
    expected = -(torch.exp(3.0 * advantage).clamp(max=100.0) * density).mean(dim=-1)
    losses = algorithm.update(batch, 0, torch.Generator().manual_seed(5))
    assert torch.allclose(losses["actor_loss"], expected.detach(), atol=1e-4)


def test_cal_ql_does_not_push_policy_values_below_the_return_of_the_data():
    """With returns far above every value, policy proposals leave no gradient in the penalty."""
    settings = CalQLSettings(width=8, conservatism=1.0, proposals=2, bfloat16=False)
    low, high = make_batch(), replace(make_batch(), returns=torch.full((2, 5), 50.0))
    penalties = [
        CalQL(SHAPE, settings, 0, 10).update(batch, 0, torch.Generator().manual_seed(5))["penalty"]
        for batch in (low, high)
    ]
    assert (penalties[1] > penalties[0] + 40).all()


@pytest.mark.parametrize("algorithm", ["td3-bc", "iql", "cal-ql"])
def test_datasets_trained_side_by_side_do_not_depend_on_each_other(algorithm: str):
    shape_one = replace(SHAPE, datasets=1)
    build = ALGORITHMS[algorithm]
    settings = build.settings_type(width=8)
    both, batch = build(SHAPE, settings, 0, 10), make_batch()
    alone = build(shape_one, settings, 0, 10)
    first = Batch(**{name: value[:1] for name, value in vars(batch).items()})
    changed = Batch(**{name: torch.cat([v[:1], v[1:] * 0.5]) for name, v in vars(batch).items()})
    twin = build(SHAPE, settings, 0, 10)
    for step in range(3):
        both.update(batch, step, torch.Generator().manual_seed(step))
        twin.update(changed, step, torch.Generator().manual_seed(step))
        alone.update(first, step, torch.Generator().manual_seed(step))
    for a, b in zip(both.actor_layers(0), twin.actor_layers(0), strict=True):
        assert torch.equal(a[0], b[0])
    assert all(
        a[0].shape == b[0].shape
        for a, b in zip(both.actor_layers(0), alone.actor_layers(0), strict=True)
    )


@pytest.mark.parametrize("algorithm", ["td3-bc", "iql"])
def test_a_policy_moves_to_the_rewarded_action(algorithm: str):
    """Reward depends on the action alone and is highest at 0.5 in every dimension."""
    dataset = make_dataset(rows=3000)
    settings = {"width": 64, "batch_size": 64, "learning_rate": 1e-3, "discount": 0.1}
    settings |= {} if algorithm == "td3-bc" else {"beta": 10.0}
    (teacher,) = train_teachers([dataset], algorithm, steps=1200, settings=settings, progress=False)
    actions = teacher.act(dataset.observations)
    assert np.square(actions - 0.5).mean() < 0.4 * np.square(dataset.actions - 0.5).mean()
    best, worst = np.full_like(dataset.actions, 0.5), np.full_like(dataset.actions, -1.0)
    values = [teacher.value(dataset.observations, action).mean() for action in (best, worst)]
    assert values[0] > values[1]


def test_returns_to_go_are_discounted_sums_within_an_episode():
    dataset = make_dataset(rows=100)
    returns = returns_to_go(dataset, dataset.rewards, 0.9)
    expected = float(np.mean(dataset.rewards[40:50])) / (1 - 0.9)
    for row in range(49, -1, -1):
        expected = float(dataset.rewards[row]) + 0.9 * expected
    assert returns[0] == pytest.approx(expected, rel=1e-5)
    following = np.concatenate([dataset.observations[1:], dataset.observations[:1]])
    following[49] += 1.0  # a jump ends an episode without time-outs
    jumping = replace(dataset, next_observations=following, timeouts=None)
    assert returns_to_go(jumping, dataset.rewards, 0.9)[0] == pytest.approx(returns[0])
    ended = replace(dataset, terminals=dataset.timeouts)
    assert returns_to_go(ended, ended.rewards, 0.9)[49] == pytest.approx(float(dataset.rewards[49]))


def test_rewards_are_scaled_by_the_mean_return_or_by_the_range_of_returns():
    dataset, settings = make_dataset(rows=100), {"held_out": 0.0, "seed": 0, "reward_bias": 2.0}
    rewards = dataset.rewards.astype(np.float64) + 2.0
    discounted = np.abs(returns_to_go(dataset, rewards, 0.9)).mean()
    assert Replay([dataset], 0.9, **settings).reward_scales == pytest.approx([discounted / 10])
    span = abs(rewards[:50].sum() - rewards[50:].sum())
    assert Replay([dataset], 0.9, scaling="none", **settings).reward_scales == [1.0]
    scaled = Replay([dataset], 0.9, scaling="return range", **settings)
    assert scaled.reward_scales == pytest.approx([span / 1000])
    alike = replace(dataset, rewards=np.ones_like(dataset.rewards))  # returns have no range
    expected = Replay([alike], 0.9, **settings).reward_scales
    assert Replay([alike], 0.9, scaling="return range", **settings).reward_scales == expected


def test_a_saved_training_belongs_to_all_columns_of_its_data(tmp_path):
    dataset, path = make_dataset(), tmp_path / "state.pt"
    TeacherTraining([dataset], "td3-bc", steps=20, settings=NARROW).save(path)
    changed = replace(dataset, next_observations=dataset.next_observations + 1.0)
    assert changed.checksum == dataset.checksum
    with pytest.raises(InvalidDataError):
        TeacherTraining([changed], "td3-bc", steps=20, settings=NARROW).resume(path)


def test_held_out_rows_take_no_part_in_training():
    replay = Replay([make_dataset()], 0.99, held_out=0.1, seed=0)
    assert len(replay.held_out[0]) == 60
    assert len(replay.training[0]) == 540
    training = {tuple(row) for row in replay.training[0].tolist()}
    assert not training & {tuple(row) for row in replay.held_out[0].tolist()}


def test_an_interrupted_training_ends_like_an_undisturbed_one(tmp_path):
    dataset, path = make_dataset(), tmp_path / "state.pt"
    training = TeacherTraining([dataset], "td3-bc", steps=20, settings=NARROW)
    for _ in range(7):
        training.advance()
    training.save(path)
    (resumed,) = train_teachers(
        [dataset], "td3-bc", steps=20, settings=NARROW, state_path=path, progress=False
    )
    (undisturbed,) = train_teachers([dataset], "td3-bc", steps=20, settings=NARROW, progress=False)
    assert resumed.checksum == undisturbed.checksum
    again = TeacherTraining([dataset], "td3-bc", steps=20, settings=NARROW)
    assert again.resume(path)  # a process that ends before the teacher is saved loses nothing
    assert again.teacher(0, {}).checksum == undisturbed.checksum


def test_a_saved_training_with_other_settings_is_refused(tmp_path):
    dataset, path = make_dataset(), tmp_path / "state.pt"
    TeacherTraining([dataset], "td3-bc", steps=20, settings=NARROW).save(path)
    with pytest.raises(InvalidDataError):
        TeacherTraining([dataset], "td3-bc", steps=30, settings=NARROW).resume(path)
    path.write_bytes(b"not a saved training")
    with pytest.raises(InvalidDataError):
        TeacherTraining([dataset], "td3-bc", steps=20, settings=NARROW).resume(path)


@pytest.mark.parametrize("supported", [False, True])
def test_products_are_bfloat16_where_the_processor_has_them(monkeypatch, supported: bool):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: supported, raising=False)
    assert algorithm_settings("td3-bc").bfloat16 is supported
    assert algorithm_settings("td3-bc", {"bfloat16": False}).bfloat16 is False


def test_bad_requests_are_named():
    with pytest.raises(UnknownNameError):
        algorithm_settings("sac")
    with pytest.raises(UnknownNameError):
        algorithm_settings("iql", {"alpha": 1.0})
    with pytest.raises(InvalidSettingError):
        TeacherTraining([make_dataset()], "iql", steps=0)
    with pytest.raises(InvalidDataError):
        TeacherTraining([replace(make_dataset(), next_observations=None)], "iql", steps=1)


def test_the_card_says_what_was_done():
    (teacher,) = train_teachers([make_dataset()], "iql", steps=5, settings=NARROW, progress=False)
    assert teacher.card["algorithm"] == "iql"
    assert teacher.card["steps"] == 5
    assert teacher.card["data"]["checksum"] == make_dataset().checksum
    assert teacher.card["held_out"]["transitions"] == 12
    assert set(teacher.card["losses"]) >= {"critic_loss", "actor_loss", "value_loss"}


@pytest.mark.parametrize(
    ("algorithm", "values"),
    [
        ("td3-bc", {"discount": 1.0}),
        ("td3-bc", {"policy_delay": 0}),
        ("td3-bc", {"width": "wide"}),
        ("iql", {"expectile": 1.0}),
        ("cal-ql", {"penalty_rows": 500}),
    ],
)
def test_settings_out_of_bounds_are_errors(algorithm: str, values: dict[str, object]):
    with pytest.raises(InvalidSettingError, match=next(iter(values))):
        algorithm_settings(algorithm, values)
