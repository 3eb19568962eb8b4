"""Exports of synsets, read back by NumPy, h5py and the libraries they are made for."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidSettingError, ObdError, UnknownNameError

PAIRS = 12


@pytest.fixture
def synset(toy_dataset: Dataset) -> Synset:
    return Synset(
        states=toy_dataset.states[:PAIRS],
        actions=toy_dataset.actions[:PAIRS],
        standardizer=toy_dataset.standardizer,
        task=toy_dataset.task,
        card={"objective": "pbc", "step": 3},
    )


@pytest.fixture
def synset_beyond_bounds(synset: Synset) -> Synset:
    """A synset like distilled ones, with most action components beyond -1 and 1."""
    return replace(synset, actions=3.5 * synset.actions)


@pytest.fixture
def minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("minari", reason="the extra minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def test_npz_holds_every_pair_as_an_episode(synset_beyond_bounds: Synset, tmp_path: Path) -> None:
    synset = synset_beyond_bounds
    columns = np.load(synset.export(tmp_path / "s.npz"))
    assert (np.abs(synset.actions) > 1).any()
    assert np.array_equal(columns["observations"], synset.observations)
    assert np.array_equal(columns["actions"], synset.actions)
    assert columns["terminals"].all()
    assert not columns["timeouts"].any()
    standardized = (columns["observations"] - columns["state_mean"]) / columns["state_scale"]
    assert np.allclose(standardized, synset.states, atol=1e-5)


@pytest.mark.parametrize("suffix", ["hdf5", "npz"])
def test_file_datasets_read_every_exported_pair(
    synset: Synset, tmp_path: Path, suffix: str
) -> None:
    path = synset.export(tmp_path / f"s.{suffix}")
    dataset = load_dataset(f"file:{path}#hopper")
    assert np.array_equal(dataset.observations, synset.observations)
    assert np.array_equal(dataset.actions, synset.actions)
    assert dataset.terminals.all()


def test_d4rl_reads_every_exported_pair(
    synset_beyond_bounds: Synset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    pytest.importorskip("gym", reason="d4rl needs the package gym")
    d4rl = pytest.importorskip("d4rl", reason="d4rl is not installed")
    synset = synset_beyond_bounds
    with h5py.File(synset.export(tmp_path / "s.hdf5")) as file:
        columns = {
            name: file[name][:]
            for name in ("observations", "actions", "rewards", "terminals", "timeouts")
        }
        assert file["metadata/pairs"][()] == PAIRS
    transitions = d4rl.qlearning_dataset(None, dataset=columns)
    assert np.array_equal(transitions["observations"], synset.observations)
    assert np.array_equal(transitions["actions"], synset.actions)
    assert transitions["terminals"].all()
    episodes = list(d4rl.sequence_dataset(None, dataset=columns))
    assert [len(episode["observations"]) for episode in episodes] == [1] * PAIRS


def test_d3rlpy_reads_and_clones_every_exported_pair(
    synset_beyond_bounds: Synset, tmp_path: Path
) -> None:
    pytest.importorskip("gym", reason="d3rlpy needs the package gym")
    d3rlpy = pytest.importorskip("d3rlpy", reason="d3rlpy is not installed")
    path = synset_beyond_bounds.export(tmp_path / "s.h5")
    with path.open("rb") as file:
        replay = d3rlpy.dataset.ReplayBuffer.load(file, d3rlpy.dataset.InfiniteBuffer())
    assert replay.transition_count == PAIRS
    observations = np.concatenate([episode.observations for episode in replay.episodes])
    actions = np.concatenate([episode.actions for episode in replay.episodes])
    assert np.array_equal(observations, synset_beyond_bounds.observations)
    assert np.array_equal(actions, synset_beyond_bounds.actions)
    assert all(episode.terminated for episode in replay.episodes)
    algorithm = d3rlpy.algos.BCConfig(batch_size=8).create()
    losses = algorithm.fit(
        replay,
        n_steps=2,
        n_steps_per_epoch=2,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    assert np.isfinite(losses[0][1]["loss"])


def test_stable_baselines3_samples_every_exported_pair(
    synset_beyond_bounds: Synset, tmp_path: Path
) -> None:
    buffers = pytest.importorskip(
        "stable_baselines3.common.buffers", reason="Stable-Baselines3 is not installed"
    )
    columns = np.load(synset_beyond_bounds.export(tmp_path / "s.npz"))
    observations, actions = columns["observations"], columns["actions"]
    bound = np.abs(actions).max(axis=0)
    buffer = buffers.ReplayBuffer(
        PAIRS,
        gymnasium.spaces.Box(-np.inf, np.inf, observations.shape[1:], np.float32),
        gymnasium.spaces.Box(-bound, bound, dtype=np.float32),
        device="cpu",
    )
    names = ("observations", "next_observations", "actions", "rewards", "terminals", "timeouts")
    for row in zip(*(columns[name] for name in names), strict=True):
        *values, timeout = (np.asarray([value]) for value in row)
        buffer.add(*values, [{"TimeLimit.truncated": bool(timeout[0])}])
    batch = buffer.sample(400)
    expected = {(*o, *a) for o, a in zip(observations, actions, strict=True)}
    drawn = np.concatenate([batch.observations.numpy(), batch.actions.numpy()], axis=1)
    assert {tuple(row) for row in drawn} == expected
    assert batch.dones.all()


def test_exported_script_clones_a_policy(
    synset: Synset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = synset.export(tmp_path / "clone.py")
    body = path.read_text().splitlines()[1:]
    assert len([line for line in body if not line.startswith(("import", "from"))]) <= 12
    names = runpy.run_path(str(path))
    assert "cloning loss" in capsys.readouterr().out
    assert names["loss"].item() < np.square(synset.actions).mean()


def test_minari_reads_every_exported_pair(
    synset_beyond_bounds: Synset, minari_folder: Path
) -> None:
    import minari

    synset_beyond_bounds.export("obdfar-v0", "minari")
    dataset = minari.load_dataset("obdfar-v0")
    assert dataset.total_steps == PAIRS
    episodes = list(dataset.iterate_episodes())
    actions = np.stack([episode.actions[0] for episode in episodes])
    observations = np.stack([episode.observations[0] for episode in episodes])
    assert np.array_equal(actions, synset_beyond_bounds.actions)
    assert np.allclose(observations, synset_beyond_bounds.observations, atol=1e-6)
    assert all(dataset.action_space.contains(action) for action in actions)
    for name in ("obdfar-v0", "obdfar"):  # exists; has no version
        with pytest.raises(InvalidSettingError):
            synset_beyond_bounds.export(name, "minari")


def test_export_returns_the_path_it_wrote(synset: Synset, tmp_path: Path) -> None:
    path = tmp_path / "new" / "pairs"
    assert synset.export(path, format="npz") == path
    assert np.array_equal(np.load(path)["observations"], synset.observations)
    with pytest.raises(ObdError, match=r"cannot be written"):
        synset.export(path / "below a file.hdf5")


@pytest.mark.parametrize(("name", "format_name"), [("s.nzp", None), ("s.npz", "hdf6")])
def test_unknown_export_format_is_an_error(
    synset: Synset, tmp_path: Path, name: str, format_name: str | None
) -> None:
    with pytest.raises(UnknownNameError):
        synset.export(tmp_path / name, format_name)
    assert list(tmp_path.iterdir()) == []
