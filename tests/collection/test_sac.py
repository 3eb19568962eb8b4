"""What a SAC run writes, without the optional library that trains it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from obdbench.collection.actor import Actor
from obdbench.collection.sac import evaluate_actor, flatten_parameters, load_replay, save_replay
from obdbench.tasks.task import TASKS

HOPPER = TASKS["hopper"]


class Buffer(SimpleNamespace):
    """The part of Stable-Baselines3's replay buffer that is saved and restored."""

    def size(self) -> int:
        return self.pos


def make_buffer(capacity: int = 20) -> Buffer:
    table, column = np.zeros((capacity, 1, 3), np.float32), np.zeros((capacity, 1), np.float32)
    return Buffer(
        pos=0,
        observations=table.copy(),
        next_observations=table.copy(),
        actions=table.copy(),
        rewards=column.copy(),
        dones=column.copy(),
        timeouts=column.copy(),
    )


def test_a_replay_buffer_survives_the_disk(tmp_path):
    rng = np.random.default_rng(0)
    before, after = make_buffer(), make_buffer(30)
    for name in ("observations", "next_observations", "actions", "rewards"):
        getattr(before, name)[:] = rng.normal(size=getattr(before, name).shape)
    before.dones[[3, 9]], before.timeouts[9], before.pos = 1, 1, 12
    save_replay(before, tmp_path / "replay.npz")
    with np.load(tmp_path / "replay.npz") as file:
        assert np.flatnonzero(file["terminals"]).tolist() == [3]
        assert np.flatnonzero(file["timeouts"]).tolist() == [9]
    load_replay(after, tmp_path / "replay.npz")
    assert after.pos == 12
    for name, array in vars(before).items():
        if name != "pos":
            np.testing.assert_array_equal(getattr(after, name)[:12], array[:12])


def test_nested_parameters_are_named_by_their_path():
    flat = flatten_parameters({"a": {"kernel": [[1, 2]], "bias": [3]}, "b": [4]})
    assert {name: array.tolist() for name, array in flat.items()} == {
        "a/kernel": [[1, 2]],
        "a/bias": [3],
        "b": [4],
    }
    assert all(array.dtype == np.float32 for array in flat.values())


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
