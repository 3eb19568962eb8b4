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


@pytest.mark.reliability(
    "input",
    "Damaged synsets",
    injection="empty files and garbage",
    outcome="one `ObdError`",
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


@pytest.mark.parametrize(("std", "reason"), [(-5.0, "negative"), (np.nan, "finite numbers")])
def test_invalid_standard_deviations_are_errors(
    synset: Synset, tmp_path: Path, std: float, reason: str
) -> None:
    from safetensors.numpy import load_file, save_file

    path = synset.save(tmp_path / "s.safetensors")
    arrays = load_file(path) | {"state_std": np.full(11, std, np.float32)}
    save_file(arrays, path, metadata={"format": "obdbench-synset-1 hopper"})
    with pytest.raises(ObdError, match=reason):
        Synset.load(path)


def test_the_suffix_is_appended_so_that_cards_stay_apart(synset: Synset, tmp_path: Path) -> None:
    paths = [synset.save(tmp_path / f"hopper.{seed}") for seed in range(2)]
    assert [path.name for path in paths] == ["hopper.0.safetensors", "hopper.1.safetensors"]
    assert (tmp_path / "hopper.0.json").exists()
    assert (tmp_path / "hopper.1.json").exists()
