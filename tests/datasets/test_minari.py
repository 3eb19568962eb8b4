"""Minari datasets through its library: from a folder made here, and from a local server."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
from support.hub_server import run_hub_server

from obdbench import register_task
from obdbench.datasets.loading import load_dataset
from obdbench.distillation.synset import Synset
from obdbench.errors import FetchError, InvalidDataError, InvalidSettingError, UnknownNameError
from obdbench.io import LockTimeoutError, lock
from obdbench.registry import tasks
from obdbench.reporting.grids.suite_results import read_suite_results

minari = pytest.importorskip("minari")
EpisodeBuffer = pytest.importorskip("minari.data_collector.episode_buffer").EpisodeBuffer
NAME = "mujoco/hopper/toy-v0"


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    return tmp_path


def record(name, env_id="Hopper-v5", episodes=4, max_steps=15):
    """Record episodes of a random policy; returns their lengths and the stored dataset."""
    env = gymnasium.make(env_id, max_episode_steps=max_steps)
    rng = np.random.default_rng(0)
    buffers = []
    for seed in range(episodes):
        columns = {name: [] for name in ("actions", "rewards", "terminations", "truncations")}
        observations, ended = [env.reset(seed=seed)[0]], False
        while not ended:
            action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
            observation, reward, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
            observations.append(observation)
            values = (action, reward, terminated, truncated)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        buffers.append(EpisodeBuffer(id=seed, observations=observations, infos={}, **columns))
    stored = minari.create_dataset_from_buffers(name, buffers, env=env, algorithm_name="uniform")
    return [len(buffer) for buffer in buffers], stored


def test_transitions_of_a_recorded_dataset(local):
    lengths, stored = record(NAME)
    dataset = load_dataset(f"minari/{NAME}")
    assert dataset.id == f"minari/{NAME}"
    assert dataset.card["environment"] == dataset.task.env_id == "Hopper-v5"
    assert len(dataset) == sum(lengths) == stored.total_steps
    ends = dataset.terminals | dataset.timeouts
    np.testing.assert_array_equal(np.flatnonzero(ends) + 1, np.cumsum(lengths))
    inside = ~ends[:-1]
    np.testing.assert_array_equal(
        dataset.next_observations[:-1][inside], dataset.observations[1:][inside]
    )


def test_actions_are_scaled_from_the_bounds_of_the_environment(local):
    register_task("humanoid", "Humanoid-v5", (0.0, 1.0), episode_limit=1000)  # bounds of ±0.4
    try:
        _, stored = record("mujoco/humanoid/toy-v0", "Humanoid-v5")
        dataset = load_dataset("minari/mujoco/humanoid/toy-v0")
    finally:
        tasks.unregister("humanoid")
    recorded = np.concatenate([episode.actions for episode in stored.iterate_episodes()])
    np.testing.assert_allclose(dataset.actions, recorded / 0.4, atol=1e-6)


def test_what_is_not_there_is_one_error(local):
    with pytest.raises(FetchError, match="mujoco/hopper/medium-v0"):
        load_dataset("minari/mujoco/hopper/medium-v0")


def test_names_outside_the_grammar():
    with pytest.raises(InvalidSettingError, match="not a MuJoCo dataset"):
        load_dataset("minari/D4RL/door/human-v2")
    with pytest.raises(UnknownNameError):
        load_dataset("minari/mujoco/humanoid/simple-v0")


@pytest.mark.parametrize(("name", "env_id"), [("walker2d", "Hopper-v5"), ("hopper", "Swimmer-v5")])
def test_other_environments_than_the_name_states_are_errors(local, name, env_id):
    record(f"mujoco/{name}/toy-v0", env_id, episodes=1)
    with pytest.raises(InvalidDataError, match=env_id):
        load_dataset(f"minari/mujoco/{name}/toy-v0")


@pytest.mark.usefixtures("in_process")
def test_recorded_dataset_is_taught_distilled_and_scored_in_its_environment(
    local, tmp_path, monkeypatch, call
):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))
    record(NAME, episodes=8)
    dataset_id = f"minari/{NAME}"
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


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Minari's server with the recorded dataset; the folder of local datasets is empty."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.delenv("OBDBENCH_OFFLINE", raising=False)
    monkeypatch.delenv("MINARI_REMOTE", raising=False)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "recorded"))
    lengths, _ = record(NAME)
    namespaces = {"datasets": [NAME], "namespaces": ["mujoco/hopper"]}
    files = {
        str(path.relative_to(tmp_path / "recorded" / "mujoco")): path.read_bytes()
        for path in (tmp_path / "recorded" / "mujoco").rglob("*")
        if path.is_file()
    }
    files["namespace_metadata.json"] = json.dumps(namespaces).encode()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "downloaded"))
    with run_hub_server() as server:
        server.repositories["farama-minari/mujoco"] = files
        url = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        server.lengths = lengths
        yield server


def test_dataset_is_downloaded_once(hub, call):
    code, output, error = call("data", "fetch", f"minari/{NAME}")
    assert code == 0, error
    assert f"{sum(hub.lengths):,} transitions" in output
    assert any(NAME.partition("/")[2] in request for request in hub.requests)
    hub.requests.clear()
    assert len(load_dataset(f"minari/{NAME}")) == sum(hub.lengths)
    assert hub.requests == []


def test_failed_download_leaves_no_dataset(hub):
    hub.lost.add("hopper/toy-v0/data/main_data.hdf5")
    with pytest.raises(FetchError, match=NAME) as caught:
        load_dataset(f"minari/{NAME}")
    assert "\n" not in str(caught.value)
    hub.lost.clear()
    assert len(load_dataset(f"minari/{NAME}")) == sum(hub.lengths)


def test_an_interrupted_download_leaves_no_dataset_and_holds_the_lock(local, monkeypatch):
    folder = local / NAME

    def interrupted(*_, **__):
        (folder / "data").mkdir(parents=True)
        with pytest.raises(LockTimeoutError), lock(folder, timeout=0.0):
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(minari, "load_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_dataset(f"minari/{NAME}")
    assert not folder.exists()


def test_dataset_that_the_server_lacks_is_one_error(hub):
    with pytest.raises(FetchError, match="mujoco/hopper/medium-v0"):
        load_dataset("minari/mujoco/hopper/medium-v0")
