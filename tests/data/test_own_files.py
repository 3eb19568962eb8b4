"""``file:`` identifiers and what they read."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from obdbench.data.dataset import load_dataset
from obdbench.data.file import parse
from obdbench.errors import InvalidSettingError, UnknownNameError

N = 300


def columns(rng) -> dict:
    return {
        "observations": rng.normal(size=(N, 17)),
        "actions": rng.uniform(-1, 1, size=(N, 6)),
        "rewards": rng.normal(size=N),
        "terminals": np.zeros(N, dtype=np.uint8),
        "timeouts": np.arange(N) % 100 == 99,
    }


def test_hdf5_and_npz_give_the_same_dataset(tmp_path):
    arrays = columns(np.random.default_rng(0))
    np.savez(tmp_path / "walker2d-mine.npz", **arrays)
    with h5py.File(tmp_path / "walker2d-mine.hdf5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    one = load_dataset(f"file:{tmp_path}/walker2d-mine.npz")
    two = load_dataset(f"file:{tmp_path}/walker2d-mine.hdf5")
    assert one.checksum == two.checksum
    assert one.task.name == "walker2d"
    assert len(one) == N - 3
    assert one.observations.dtype == np.float32
    assert one.terminals.dtype == bool


def test_with_next_observations_every_row_counts(tmp_path):
    arrays = columns(np.random.default_rng(1))
    arrays["observations"] = arrays["observations"].astype(np.float32)
    arrays["next_observations"] = arrays["observations"] + 1
    np.savez(tmp_path / "data.npz", **arrays)
    dataset = load_dataset(f"file:{tmp_path}/data.npz#halfcheetah")
    assert len(dataset) == N
    assert dataset.task.name == "halfcheetah"
    assert dataset.observations.flags.writeable
    np.testing.assert_allclose(dataset.next_observations, dataset.observations + 1, atol=1e-5)


def test_column_order_is_kept_for_fortran_arrays(tmp_path):
    arrays = columns(np.random.default_rng(2))
    np.savez(tmp_path / "walker2d-c.npz", **arrays)
    arrays["observations"] = np.asfortranarray(arrays["observations"])
    np.savez(tmp_path / "walker2d-f.npz", **arrays)
    both = [load_dataset(f"file:{tmp_path}/walker2d-{order}.npz") for order in "cf"]
    assert both[0].checksum == both[1].checksum


def test_the_task_must_be_known():
    assert parse("file:/a/hopper_x.npz")[1].name == "hopper"
    assert parse("file:/a/hopper_x.npz#walker2d")[1].name == "walker2d"
    with pytest.raises(InvalidSettingError, match="does not begin with a task"):
        parse("file:/a/data.npz")
    with pytest.raises(UnknownNameError, match="walker2d"):
        parse("file:/a/data.npz#walker")
    with pytest.raises(InvalidSettingError, match="names no file"):
        parse("file:")
