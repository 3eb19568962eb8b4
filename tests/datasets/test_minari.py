"""Minari datasets through its library, from a folder made here."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from obdbench.datasets.loading import load_dataset
from obdbench.distillation.synset import Synset
from obdbench.errors import FetchError, InvalidDataError, InvalidSettingError, UnknownNameError
from obdbench.reporting.suite_results import read_suite_results

minari = pytest.importorskip("minari")
pytest.importorskip("jax", reason="Minari records datasets with its extra 'create'")


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    return tmp_path


def record(name, env_id="Hopper-v5", episodes=4, max_steps=15):
    """Record episodes of a random policy; returns their lengths and the stored dataset."""
    env = minari.DataCollector(gymnasium.make(env_id, max_episode_steps=max_steps))
    rng = np.random.default_rng(0)
    lengths = []
    for seed in range(episodes):
        env.reset(seed=seed)
        ended, steps = False, 0
        while not ended:
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            _, _, terminated, truncated, _ = env.step(action)
            ended, steps = terminated or truncated, steps + 1
        lengths.append(steps)
    return lengths, env.create_dataset(name, algorithm_name="uniform")


def test_transitions_of_a_recorded_dataset(local):
    lengths, stored = record("mujoco/hopper/toy-v0")
    dataset = load_dataset("minari/mujoco/hopper/toy-v0")
    assert dataset.id == "minari/mujoco/hopper/toy-v0"
    assert dataset.card["environment"] == dataset.task.env_id == "Hopper-v5"
    assert len(dataset) == sum(lengths) == stored.total_steps
    ends = dataset.terminals | dataset.timeouts
    np.testing.assert_array_equal(np.flatnonzero(ends) + 1, np.cumsum(lengths))
    inside = ~ends[:-1]
    np.testing.assert_array_equal(
        dataset.next_observations[:-1][inside], dataset.observations[1:][inside]
    )


def test_what_is_not_there_is_one_error(local):
    with pytest.raises(FetchError, match="mujoco/hopper/medium-v0"):
        load_dataset("minari/mujoco/hopper/medium-v0")


def test_names_outside_the_grammar():
    with pytest.raises(InvalidSettingError, match="no MuJoCo dataset"):
        load_dataset("minari/D4RL/door/human-v2")
    with pytest.raises(UnknownNameError):
        load_dataset("minari/mujoco/ant/simple-v0")


@pytest.mark.parametrize(("name", "env_id"), [("walker2d", "Hopper-v5"), ("hopper", "Swimmer-v5")])
def test_other_environments_than_the_name_states_are_errors(local, name, env_id):
    record(f"mujoco/{name}/toy-v0", env_id, episodes=1)
    with pytest.raises(InvalidDataError, match=env_id):
        load_dataset(f"minari/mujoco/{name}/toy-v0")


def test_recorded_dataset_is_taught_distilled_and_scored_in_its_environment(
    local, tmp_path, monkeypatch, call
):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))
    record("mujoco/hopper/toy-v0", episodes=8)
    dataset_id = "minari/mujoco/hopper/toy-v0"
    fast = ["--steps", "4", "--set", "width=8", "--set", "batch_size=16", "--episodes", "1"]
    code, _, error = call("teach", dataset_id, *fast)
    assert code == 0, error
    options = ["--objective", "av-pbc", "--preset", "tiny", "--workers", "1", "--seeds", "0"]
    code, _, error = call("run", "minari", "--dataset", dataset_id, *options)
    assert code == 0, error
    suite_results = read_suite_results(tmp_path / "results" / "minari", strict=True)
    (entry,) = suite_results.entries
    assert entry.record.status == "ok"
    assert entry.record.environment.env_id == "Hopper-v5"
    (path, *_) = sorted((tmp_path / "results/minari/synsets").rglob("*.safetensors"))
    assert Synset.load(path).task == load_dataset(dataset_id).task
