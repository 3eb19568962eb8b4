"""Fitted Q evaluation on a Markov decision process whose action values are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.policy_files import d4rl_policy
from support.toys import make_toy_dataset

from obdbench.datasets.dataset import Dataset, Standardizer
from obdbench.errors import InvalidDataError, InvalidSettingError
from obdbench.objectives.objective import make_objective
from obdbench.offline_rl.networks import convert_inputs
from obdbench.offline_rl.trainer import TeacherTraining, train_teachers
from obdbench.tasks.task import Task
from obdbench.teachers.loading import load_teacher
from obdbench.teachers.teacher import Teacher, apply_layers, with_constant_std

DISCOUNT = 0.5
TASK = Task("chain", "Chain-v0", 0.0, 1.0, 1, 1)
ACTIONS = (-0.8, -0.4, 0.4, 0.8)
SETTINGS = {"width": 32, "batch_size": 64, "discount": DISCOUNT, "learning_rate": 3e-3}
SETTINGS |= {"bfloat16": False}


def transition(state: float, action: float) -> tuple[float, float, bool]:
    """Reward, next state and end: a positive action leads to state 1, -0.8 in state 1 ends."""
    return state + action, float(action > 0), state == 1.0 and action == -0.8


def policy_action(state: float) -> float:
    return 0.8 if state == 0.0 else -0.4


def action_values(reward_bias: float = 0.0) -> dict[tuple[float, float], float]:
    """The action values of the policy, by iteration of its Bellman equation."""
    values = {(s, a): 0.0 for s in (0.0, 1.0) for a in ACTIONS}
    for _ in range(60):
        for state, action in values:
            reward, following, ended = transition(state, action)
            future = 0.0 if ended else values[following, policy_action(following)]
            values[state, action] = reward + reward_bias + DISCOUNT * future
    return values


@pytest.fixture
def chain() -> Dataset:
    rng = np.random.default_rng(0)
    rows = [(s, a) for s in (0.0, 1.0) for a in ACTIONS] * 50
    order = rng.permutation(len(rows))
    states, actions = np.float32(rows)[order].T
    outcomes = [transition(s, a) for s, a in (rows[i] for i in order)]
    rewards, following, ended = zip(*outcomes, strict=True)
    return Dataset(
        id="toy/chain",
        task=TASK,
        observations=states[:, None],
        actions=actions[:, None],
        rewards=np.float32(rewards),
        terminals=np.array(ended),
        next_observations=np.float32(following)[:, None],
        timeouts=~np.array(ended),
    )


@pytest.fixture
def policy() -> Teacher:
    """The policy as a network of states standardized by 3 and 2: no critic."""
    slope = np.arctanh(-0.4) - np.arctanh(0.8)
    moments = Standardizer(np.float32([3.0]), np.float32([2.0 - 1e-3]))
    hidden = (torch.tensor([[2.0]]), torch.tensor([3.0]))  # the raw observation
    output = (torch.tensor([[float(slope)]]), torch.tensor([float(np.arctanh(0.8))]))
    actor = with_constant_std((hidden, output))
    return Teacher("toy", actor, (), moments, log_std_offset=0.0)


@pytest.mark.parametrize("reward_bias", [0.0, 3.0])
def test_critic_has_the_known_action_values(
    chain: Dataset, policy: Teacher, reward_bias: float
) -> None:
    np.testing.assert_allclose(policy.act(np.float32([[0.0], [1.0]])), [[0.8], [-0.4]], atol=1e-4)
    (teacher,) = train_teachers(
        [chain],
        "fitted-q",
        steps=1500,
        settings=SETTINGS | {"target_rate": 0.05, "reward_bias": reward_bias},
        policy=policy,
        progress=False,
    )
    expected = action_values(reward_bias)
    states, actions = np.float32(list(expected)).T
    values = teacher.value(states[:, None], actions[:, None])
    np.testing.assert_allclose(values, list(expected.values()), atol=0.1)
    assert teacher.act(chain.observations).tolist() == policy.act(chain.observations).tolist()
    assert teacher.card["policy"]["checksum"] == policy.checksum


def test_inputs_of_another_standardization_give_the_same_function() -> None:
    rng = np.random.default_rng(1)
    old, new = (Standardizer.fit(rng.normal(i, 1 + i, (50, 3)).astype("f4")) for i in range(2))
    layers = tuple(
        (torch.from_numpy(rng.normal(size=(o, i)).astype("f4")), torch.zeros(o))
        for i, o in ((5, 7), (7, 1))
    )
    observations, actions = rng.normal(size=(9, 3)).astype("f4"), torch.randn(9, 2)
    values = [
        apply_layers(net, torch.cat([torch.from_numpy(moments.apply(observations)), actions], 1))
        for net, moments in ((layers, old), (convert_inputs(layers, old, new), new))
    ]
    torch.testing.assert_close(*values, atol=1e-4, rtol=1e-4)


def test_policy_belongs_to_fitted_q_and_to_the_task(chain: Dataset, policy: Teacher) -> None:
    with pytest.raises(InvalidSettingError, match="--policy"):
        TeacherTraining([chain], "fitted-q", steps=1)
    with pytest.raises(InvalidSettingError, match="fitted-q"):
        TeacherTraining([chain], "iql", steps=1, policy=policy)
    wider = replace(chain, task=replace(TASK, action_size=2), actions=chain.actions.repeat(2, 1))
    with pytest.raises(InvalidDataError, match="same task"):
        TeacherTraining([wider], "fitted-q", steps=1, policy=policy)


def test_command_adds_a_critic_that_later_commands_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any]
) -> None:
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))
    toy = make_toy_dataset()
    names = ("observations", "actions", "rewards", "terminals")
    columns = {name: getattr(toy, name) for name in names}
    np.savez(tmp_path / "hopper.npz", next_observations=toy.observations, **columns)
    dataset_id, path = f"file:{tmp_path / 'hopper.npz'}", d4rl_policy(tmp_path).path
    policy = load_teacher(dataset_id, str(path))
    objective, rng = make_objective("av-pbc"), np.random.default_rng(0)
    with pytest.raises(InvalidDataError, match="--algorithm fitted-q"):
        objective.prepare(toy, policy, rng)
    options = ["--algorithm", "fitted-q", "--policy", path, "--steps", "3", "--episodes", "0"]
    code, _, error = call("teach", dataset_id, *options, "--set", "reward_bias=5.0")
    assert code == 0, error
    teacher = load_teacher(dataset_id)
    assert teacher.checksum == load_teacher(dataset_id, "fitted-q").checksum
    assert len(teacher.critics) == 1
    np.testing.assert_array_equal(teacher.act(toy.observations), policy.act(toy.observations))
    assert teacher.card["policy"]["id"] == policy.id
