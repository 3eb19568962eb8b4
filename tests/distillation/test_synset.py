"""Synsets: files, exports and validation."""

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


def test_saved_synset_is_read_back_unchanged(synset: Synset, tmp_path: Path) -> None:
    again = Synset.load(synset.save(tmp_path / "deep" / "s.safetensors"))
    assert np.array_equal(again.states, synset.states)
    assert np.array_equal(again.actions, synset.actions)
    assert np.array_equal(again.observations, synset.observations)
    assert again.task == synset.task
    assert again.card["objective"] == "pbc"
    assert [p.name for p in (tmp_path / "deep").iterdir() if p.name.startswith(".")] == []


def test_observations_are_in_environment_units(synset: Synset, toy_dataset: Dataset) -> None:
    assert np.allclose(synset.observations, toy_dataset.observations[:12], atol=1e-4)


def test_npz_and_hdf5_exports_hold_raw_observations(synset: Synset, tmp_path: Path) -> None:
    import h5py

    npz = np.load(synset.export(tmp_path / "s.npz"))
    assert np.array_equal(npz["observations"], synset.observations)
    with h5py.File(synset.export(tmp_path / "s.hdf5")) as file:
        assert set(file) >= {"observations", "actions", "rewards", "terminals", "timeouts"}
        assert np.array_equal(file["observations"][:], synset.observations)
        assert file["terminals"][:].all()
        assert not file["timeouts"][:].any()


@pytest.fixture
def synset_beyond_bounds(synset: Synset) -> Synset:
    """A synset like distilled ones, with most action components beyond -1 and 1."""
    return replace(synset, actions=3.5 * synset.actions)


def test_exported_actions_are_the_distilled_ones(
    synset_beyond_bounds: Synset, tmp_path: Path
) -> None:
    import h5py

    assert (np.abs(synset_beyond_bounds.actions) > 1).any()
    assert np.array_equal(
        np.load(synset_beyond_bounds.export(tmp_path / "s.npz"))["actions"],
        synset_beyond_bounds.actions,
    )
    with h5py.File(synset_beyond_bounds.export(tmp_path / "s.hdf5")) as file:
        assert np.array_equal(file["actions"][:], synset_beyond_bounds.actions)


def test_minari_export_has_an_action_space_that_contains_the_actions(
    synset_beyond_bounds: Synset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax", reason="Minari writes datasets with its extra 'create'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    synset_beyond_bounds.export(Path("obdfar-v0"), "minari")
    dataset = minari.load_dataset("obdfar-v0")
    actual = np.stack([episode.actions[0] for episode in dataset.iterate_episodes()])
    assert np.array_equal(actual, synset_beyond_bounds.actions)
    assert all(dataset.action_space.contains(action) for action in actual)


def test_export_returns_the_path_it_wrote(synset: Synset, tmp_path: Path) -> None:
    path = tmp_path / "new" / "pairs"
    assert synset.export(path, format="npz") == path
    assert np.array_equal(np.load(path)["observations"], synset.observations)
    with pytest.raises(ObdError, match=r"cannot be written"):
        synset.export(path / "below a file.hdf5")


def test_minari_export_holds_raw_observations(
    synset: Synset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax", reason="Minari writes datasets with its extra 'create'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    synset.export(Path("obdtest-v0"), "minari")
    dataset = minari.load_dataset("obdtest-v0")
    assert dataset.total_steps == 12
    assert np.allclose(dataset[3].observations[0], synset.observations[3], atol=1e-6)


def test_unknown_export_format_is_an_error(synset: Synset, tmp_path: Path) -> None:
    with pytest.raises(ObdError, match="npz"):
        synset.export(tmp_path / "s.nzp")


@pytest.mark.reliability(
    "input",
    "Damaged synsets",
    how="empty files and garbage",
    outcome="one error of ours",
)
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 4096])
def test_damaged_file_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(content)
    with pytest.raises(ObdError, match="cannot be read"):
        Synset.load(path)


def test_other_safetensors_file_is_an_error(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "s.safetensors"
    save_file({"states": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(ObdError, match="not a synset"):
        Synset.load(path)


def test_wrong_shapes_and_non_finite_values_are_errors(synset: Synset) -> None:
    with pytest.raises(ObdError, match="shape"):
        replace(synset, actions=synset.actions[:, :2])
    with pytest.raises(ObdError, match="not finite"):
        replace(synset, states=np.full_like(synset.states, np.nan))


@pytest.mark.parametrize(("std", "reason"), [(-5.0, "negative"), (np.nan, "finite moments")])
def test_invalid_standard_deviations_are_errors(
    synset: Synset, tmp_path: Path, std: float, reason: str
) -> None:
    from safetensors.numpy import load_file, save_file

    path = synset.save(tmp_path / "s.safetensors")
    arrays = load_file(path) | {"state_std": np.full(11, std, np.float32)}
    save_file(arrays, path, metadata={"format": "obdbench-synset-1 hopper"})
    with pytest.raises(ObdError, match=reason):
        Synset.load(path)
