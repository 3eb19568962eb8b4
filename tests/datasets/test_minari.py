"""Minari datasets through its library, from a folder made here."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from obdbench.datasets.loading import load_dataset
from obdbench.errors import FetchError, InvalidSettingError, UnknownNameError

minari = pytest.importorskip("minari")
pytest.importorskip("jax", reason="Minari records datasets with its extra 'create'")


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    return tmp_path


def test_transitions_of_a_recorded_dataset(local):
    env = minari.DataCollector(gymnasium.make("Hopper-v5", max_episode_steps=15))
    rng = np.random.default_rng(0)
    lengths = []
    for seed in range(4):
        env.reset(seed=seed)
        for step in range(15):
            action = rng.uniform(-1, 1, 3).astype(np.float32)
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                lengths.append(step + 1)
                break
    stored = env.create_dataset("mujoco/hopper/toy-v0", algorithm_name="uniform")
    dataset = load_dataset("minari/mujoco/hopper/toy-v0")
    assert dataset.id == "minari/mujoco/hopper/toy-v0"
    assert dataset.card["environment"] == "Hopper-v5"
    assert len(dataset) == sum(lengths) == stored.total_steps
    ends = dataset.terminals | dataset.timeouts
    np.testing.assert_array_equal(np.flatnonzero(ends) + 1, np.cumsum(lengths))
    inside = ~ends[:-1]
    np.testing.assert_array_equal(
        dataset.next_observations[:-1][inside], dataset.observations[1:][inside]
    )


def test_what_is_not_there_is_one_error(local):
    with pytest.raises(FetchError, match="Minari cannot give"):
        load_dataset("minari/mujoco/hopper/medium-v0")


def test_names_outside_the_grammar():
    with pytest.raises(InvalidSettingError, match="no MuJoCo dataset"):
        load_dataset("minari/D4RL/door/human-v2")
    with pytest.raises(UnknownNameError):
        load_dataset("minari/mujoco/ant/simple-v0")
