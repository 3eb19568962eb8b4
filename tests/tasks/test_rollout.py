"""Simultaneous episodes against Gymnasium's own API, bit for bit."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import pytest

from obdbench.errors import InvalidDataError, UnknownNameError
from obdbench.tasks.rollout import deterministic_returns, run_episodes
from obdbench.tasks.simulator import Simulator
from obdbench.tasks.task import MINARI_TASKS, TASKS, Task

STEPS = 120


def linear_policy(task: Task, seed: int = 0):
    """A linear feedback that takes some steps before it falls."""
    rng = np.random.default_rng(seed)
    gain = rng.normal(size=(task.observation_size, task.action_size)) * 0.3

    def act(observations, slots):
        return np.tanh(np.asarray(observations) @ gain).astype(np.float32)

    return act


@dataclass
class GymnasiumEpisode:
    """One episode through ``gymnasium.make`` and its wrappers."""

    rewards: list
    observations: list
    terminated: bool
    truncated: bool

    @classmethod
    def run(cls, task: Task, act, seed: int, steps: int) -> GymnasiumEpisode:
        env = gymnasium.make(task.env_id)
        observation, _ = env.reset(seed=seed)
        rewards, observations, terminated, truncated = [], [observation], False, False
        while not (terminated or truncated) and len(rewards) < steps:
            action = act(observation[None], np.array([0]))[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            observations.append(observation)
        env.close()
        return cls(rewards, observations, terminated, truncated)


@pytest.mark.parametrize("task", [*TASKS.values(), *MINARI_TASKS.values()], ids=lambda t: t.env_id)
def test_equal_to_gymnasium_bit_for_bit(task):
    act, seeds = linear_policy(task), list(range(40, 49))
    episodes = run_episodes(act, replace(task, episode_limit=STEPS), seeds, record=True)
    recorded = {name: episodes.split(name) for name in episodes.columns}
    for i, seed in enumerate(seeds):
        reference = GymnasiumEpisode.run(task, act, seed, STEPS)
        assert episodes.lengths[i] == len(reference.rewards)
        assert episodes.returns[i] == sum(reference.rewards)
        np.testing.assert_array_equal(
            recorded["rewards"][i], np.asarray(reference.rewards, dtype=np.float32)
        )
        path = np.asarray(reference.observations, dtype=np.float32)
        np.testing.assert_array_equal(recorded["observations"][i], path[:-1])
        np.testing.assert_array_equal(recorded["next_observations"][i], path[1:])
        assert recorded["terminals"][i][-1] == reference.terminated
        assert not recorded["terminals"][i][:-1].any()
    if not task.name.startswith("halfcheetah"):
        assert episodes.lengths.min() < STEPS, "no episode ends, so that no ending is compared"


def test_time_limit_is_the_tasks_own():
    task = TASKS["halfcheetah"]
    still = run_episodes(lambda o, s: np.zeros((len(o), 6), np.float32), task, [3], record=True)
    assert still.lengths.tolist() == [1000]
    assert not still.columns["terminals"].any()
    reference = GymnasiumEpisode.run(task, lambda o, s: np.zeros((1, 6), np.float32), 3, 2000)
    assert reference.truncated
    assert still.returns[0] == sum(reference.rewards)


def test_finished_slots_are_compacted_away():
    task, calls = TASKS["hopper"], []

    def act(observations, slots):
        calls.append(slots.copy())
        return np.sin(slots[:, None] + np.arange(3)).astype(np.float32)

    episodes = run_episodes(act, task, [5, 6, 7, 8, 9, 10])
    for step, slots in enumerate(calls):
        np.testing.assert_array_equal(slots, np.flatnonzero(episodes.lengths > step))
    assert len(set(episodes.lengths.tolist())) > 1
    assert len(calls) == episodes.lengths.max()


def test_no_state_leaks_between_runs():
    task = replace(TASKS["walker2d"], episode_limit=60)
    act = linear_policy(task, 1)
    first = run_episodes(act, task, [1, 2, 3])
    run_episodes(linear_policy(task, 2), task, [9] * 7)
    again = run_episodes(act, task, [3, 1])
    np.testing.assert_array_equal(again.returns, first.returns[[2, 0]])


def test_wrong_actions_are_refused():
    task = TASKS["hopper"]
    with pytest.raises(InvalidDataError, match="shape"):
        run_episodes(lambda o, s: np.zeros((len(o), 6)), task, [0])
    with pytest.raises(InvalidDataError, match="finite"):
        run_episodes(lambda o, s: np.full((len(o), 3), np.nan), task, [0])


def test_no_seeds_give_no_episodes():
    empty = run_episodes(linear_policy(TASKS["hopper"]), TASKS["hopper"], [], record=True)
    assert empty.returns.shape == empty.lengths.shape == (0,)
    assert empty.columns == {}


def test_unknown_environment_is_named():
    with pytest.raises(UnknownNameError, match="Hopper-v4"):
        Simulator(Task("hop", "Hopper-v3", 0.0, 1.0, 11, 3))


def test_making_is_silent_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulator = Simulator(TASKS["walker2d"])
    simulator.reset([0])
    simulator.slots[0].qvel[:] = 1e12
    simulator.step(np.array([0]), np.zeros((1, 6), np.float32))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.benchmark
def test_hundred_hopper_episodes_keep_up_with_the_bare_environment():
    """At least 80% of the bare environment's rate, with ten policies of the default size."""
    task = TASKS["hopper"]
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(10, a, b)) * 0.1 for a, b in ((11, 256), (256, 256), (256, 3))]

    def act(observations, slots):
        actions = np.empty((len(slots), 3), np.float32)
        for policy in range(10):
            mine = slots // 10 == policy
            hidden = observations[mine]
            for layer in weights:
                hidden = np.tanh(hidden @ layer[policy])
            actions[mine] = hidden
        return actions

    run_episodes(act, task, range(100))  # creates the slots
    started = time.perf_counter()
    lengths = run_episodes(act, task, range(100)).lengths
    rate = lengths.sum() / (time.perf_counter() - started)

    env = gymnasium.make(task.env_id).unwrapped
    env.reset(seed=0)
    steps, started = 4000, time.perf_counter()
    for action in rng.uniform(-1, 1, (steps, 3)).astype(np.float32):
        if env.step(action)[2]:
            env.reset()
    bare = steps / (time.perf_counter() - started)
    assert rate >= 0.8 * bare, f"{rate:.0f} steps/s against {bare:.0f}"


def test_policies_are_scored_on_the_same_starting_states() -> None:
    def still(observations: np.ndarray) -> np.ndarray:
        return np.zeros((len(observations), 3), np.float32)

    def lean(observations: np.ndarray) -> np.ndarray:
        return np.ones((len(observations), 3), np.float32)

    both = deterministic_returns([still, lean], TASKS["hopper"], 3)
    np.testing.assert_array_equal(both[0], deterministic_returns([still], TASKS["hopper"], 3)[0])
    np.testing.assert_array_equal(both[1], deterministic_returns([lean], TASKS["hopper"], 3)[0])
    assert (both[0] != both[1]).all()
