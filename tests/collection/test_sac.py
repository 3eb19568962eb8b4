"""What a SAC run writes; the parts that train need the extra ``collect``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from obdbench.collection.actor import Actor
from obdbench.collection.sac import (
    ReplayBuffer,
    SacSettings,
    evaluate_actor,
    step_environment,
    train,
)
from obdbench.errors import InvalidSettingError
from obdbench.tasks.gymnasium_environment import make_from
from obdbench.tasks.task import PENDULUM, TASKS

HOPPER = TASKS["hopper"]
SHORT = SacSettings(
    HOPPER.env_id,
    steps=320,
    random_steps=128,
    eval_every=160,
    eval_episodes=1,
    save_every=160,
    batch_size=8,
)


def filled_buffer(size: int, capacity: int = 20) -> ReplayBuffer:
    rng = np.random.default_rng(0)
    buffer = ReplayBuffer(capacity, observation_dim=3, action_dim=2)
    for index in range(size):
        state, action, following = rng.normal(size=3), rng.normal(size=2), rng.normal(size=3)
        buffer.add(state, action, rng.normal(), following, index == 3, index == 9)
    return buffer


def test_a_replay_buffer_survives_the_disk(tmp_path):
    before, after = filled_buffer(12), ReplayBuffer(30, observation_dim=3, action_dim=2)
    before.save(tmp_path / "replay.npz")
    after.load(tmp_path / "replay.npz")
    assert after.size == 12
    assert np.flatnonzero(after.columns["terminals"][:12]).tolist() == [3]
    assert np.flatnonzero(after.columns["timeouts"][:12]).tolist() == [9]
    for name, column in before.columns.items():
        np.testing.assert_array_equal(after.columns[name][:12], column[:12])


def test_batches_hold_stored_transitions_without_timeouts():
    buffer = filled_buffer(12)
    batches = buffer.sample(4, 6, np.random.default_rng(1))
    assert set(batches) == set(buffer.columns) - {"timeouts"}
    assert batches["observations"].shape == (4, 6, 3)
    stored = {tuple(row) for row in buffer.columns["observations"][:12]}
    assert {tuple(row) for row in batches["observations"].reshape(-1, 3)} <= stored
    assert set(np.unique(batches["terminals"])) <= {0.0, 1.0}


def test_an_evaluation_covers_stochastic_and_deterministic_episodes_and_repeats():
    rng = np.random.default_rng(0)
    shapes = {"Dense_0": (11, 4), "Dense_1": (4, 4), "Dense_2": (4, 3), "Dense_3": (4, 3)}
    actor = Actor(
        {f"{name}/kernel": rng.normal(size=shape) for name, shape in shapes.items()}
        | {f"{name}/bias": np.zeros(shape[1]) for name, shape in shapes.items()}
    )
    entry = evaluate_actor(actor, HOPPER, 500, 4)
    assert entry == evaluate_actor(actor, HOPPER, 500, 4)
    returns = actor.rollout(HOPPER, range(500, 502), stochastic=False).returns
    assert entry["step"] == 500
    assert entry["deterministic"] == pytest.approx(returns.mean())
    assert entry["deterministic_std"] == pytest.approx(returns.std())
    assert entry["stochastic"] != entry["deterministic"]


def test_stored_actions_are_between_minus_one_and_one_whatever_the_bounds():
    environment = make_from(PENDULUM.name, PENDULUM.env_id)
    environment.action_space.seed(0)
    observation, _ = environment.reset(seed=0)
    buffer = ReplayBuffer(50, PENDULUM.observation_size, PENDULUM.action_size)
    rng = np.random.default_rng(0)
    for _ in range(50):
        angle = np.arctan2(observation[1], observation[0])
        cost = angle**2 + 0.1 * observation[2] ** 2
        observation, _ = step_environment(environment, PENDULUM, observation, buffer, None, rng)
        action, reward = buffer.columns["actions"][buffer.size - 1], buffer.columns["rewards"]
        torque = 2.0 * action[0]  # the bounds are -2 and 2
        assert reward[buffer.size - 1] == pytest.approx(-cost - 0.001 * torque**2, abs=1e-3)
    assert np.abs(buffer.columns["actions"]).max() <= 1.0


@pytest.mark.parametrize(
    "changes", [{"env_id": "Walker2d-v4"}, {"seed": 1, "steps": 640}, {"steps": 160}]
)
def test_a_run_is_not_continued_with_other_settings(tmp_path, changes):
    text = json.dumps(vars(SHORT))
    (tmp_path / "settings.json").write_text(text)
    (tmp_path / "learner.safetensors").touch()
    with pytest.raises(InvalidSettingError):
        train(HOPPER, SacSettings(**{**vars(SHORT), **changes}), tmp_path, progress=False)
    assert (tmp_path / "settings.json").read_text() == text


@pytest.mark.parametrize("folders", [1, 2])
def test_a_run_repeats_and_an_interrupted_one_continues_from_its_last_state(tmp_path, folders):
    pytest.importorskip("jax", reason="SAC needs the extra 'collect'")
    pytest.importorskip("optax", reason="SAC needs the extra 'collect'")
    first, second = tmp_path / "first", tmp_path / "second"
    train(HOPPER, SHORT, first, progress=False)
    assert json.loads((first / "settings.json").read_text())["steps"] == SHORT.steps
    assert sorted(path.name for path in first.glob("policy-*")) == [
        "policy-0000160.safetensors",
        "policy-0000320.safetensors",
    ]
    if folders == 2:
        train(HOPPER, SHORT, second, progress=False)
        last = "policy-0000320.safetensors"
        assert (first / last).read_bytes() == (second / last).read_bytes()
    longer = SacSettings(**{**vars(SHORT), "steps": 480})
    train(HOPPER, longer, first, progress=False)
    with np.load(first / "replay.npz") as file:
        assert len(file["rewards"]) == 480
    steps = [json.loads(line)["step"] for line in (first / "progress.jsonl").open()]
    assert steps == [160, 320, 480]
    with pytest.raises(InvalidSettingError):
        train(HOPPER, SHORT, first, progress=False)
