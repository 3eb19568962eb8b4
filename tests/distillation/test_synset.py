"""Synsets on disk and exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.synset import Synset
from obdbench.errors import ObdError


@pytest.fixture
def synset(toy_dataset: Dataset) -> Synset:
    return Synset(
        states=toy_dataset.states[:12],
        actions=toy_dataset.actions[:12],
        standardizer=toy_dataset.standardizer,
        task=toy_dataset.task,
        card={"objective": "pbc", "step": 3},
    )


def test_round_trip(synset: Synset, tmp_path: Path) -> None:
    again = Synset.load(synset.save(tmp_path / "deep" / "s.safetensors"))
    assert np.array_equal(again.states, synset.states)
    assert np.array_equal(again.actions, synset.actions)
    assert np.array_equal(again.observations, synset.observations)
    assert again.task == synset.task
    assert again.card["objective"] == "pbc"
    assert [p.name for p in (tmp_path / "deep").iterdir() if p.name.startswith(".")] == []


def test_observations_are_raw(synset: Synset, toy_dataset: Dataset) -> None:
    assert np.allclose(synset.observations, toy_dataset.observations[:12], atol=1e-4)


def test_export_npz_and_hdf5(synset: Synset, tmp_path: Path) -> None:
    import h5py

    npz = np.load(synset.export(tmp_path / "s.npz"))
    assert np.array_equal(npz["observations"], synset.observations)
    with h5py.File(synset.export(tmp_path / "s.hdf5")) as file:
        assert set(file) >= {"observations", "actions", "rewards", "terminals", "timeouts"}
        assert np.array_equal(file["observations"][:], synset.observations)
        assert file["terminals"][:].all()
        assert not file["timeouts"][:].any()


@pytest.fixture
def far(synset: Synset) -> Synset:
    """As distilled: most numbers in actions lie beyond -1 and 1."""
    return replace(synset, actions=3.5 * synset.actions)


def test_exported_actions_are_the_distilled_ones(far: Synset, tmp_path: Path) -> None:
    import h5py

    assert (np.abs(far.actions) > 1).any()
    assert np.array_equal(np.load(far.export(tmp_path / "s.npz"))["actions"], far.actions)
    with h5py.File(far.export(tmp_path / "s.hdf5")) as file:
        assert np.array_equal(file["actions"][:], far.actions)


def test_minari_gets_an_action_space_that_holds_them(
    far: Synset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax", reason="Minari writes datasets with its extra 'create'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    far.export(Path("obdfar-v0"), "minari")
    dataset = minari.load_dataset("obdfar-v0")
    found = np.stack([episode.actions[0] for episode in dataset.iterate_episodes()])
    assert np.array_equal(found, far.actions)
    assert all(dataset.action_space.contains(action) for action in found)


def test_an_export_is_where_it_says(synset: Synset, tmp_path: Path) -> None:
    path = tmp_path / "new" / "pairs"
    assert synset.export(path, format="npz") == path
    assert np.array_equal(np.load(path)["observations"], synset.observations)
    with pytest.raises(ObdError, match=r"cannot be written"):
        synset.export(path / "below a file.hdf5")


def test_export_minari(synset: Synset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax", reason="Minari writes datasets with its extra 'create'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    synset.export(Path("obdtest-v0"), "minari")
    dataset = minari.load_dataset("obdtest-v0")
    assert dataset.total_steps == 12
    assert np.allclose(dataset[3].observations[0], synset.observations[3], atol=1e-6)


def test_unknown_export(synset: Synset, tmp_path: Path) -> None:
    with pytest.raises(ObdError, match="npz"):
        synset.export(tmp_path / "s.nzp")


@pytest.mark.reliability(
    "input",
    "Damaged synsets",
    how="empty files and garbage",
    outcome="one error of ours",
)
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 4096])
def test_a_damaged_file_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(content)
    with pytest.raises(ObdError, match="cannot be read"):
        Synset.load(path)


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "s.safetensors"
    save_file({"states": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(ObdError, match="no synset"):
        Synset.load(path)


def test_wrong_shapes_and_values(synset: Synset) -> None:
    import dataclasses

    with pytest.raises(ObdError, match="shape"):
        dataclasses.replace(synset, actions=synset.actions[:, :2])
    with pytest.raises(ObdError, match="not finite"):
        dataclasses.replace(synset, states=np.full_like(synset.states, np.nan))


@pytest.mark.parametrize(("spread", "said"), [(-5.0, "negative"), (np.nan, "finite moments")])
def test_spreads_that_no_data_has(synset: Synset, tmp_path: Path, spread: float, said: str) -> None:
    from safetensors.numpy import load_file, save_file

    path = synset.save(tmp_path / "s.safetensors")
    arrays = load_file(path) | {"state_std": np.full(11, spread, np.float32)}
    save_file(arrays, path, metadata={"format": "obdbench-synset-1 hopper"})
    with pytest.raises(ObdError, match=said):
        Synset.load(path)
