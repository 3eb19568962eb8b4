"""``file:`` identifiers and what they read."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest

from obdbench.data.dataset import load_dataset
from obdbench.data.file import parse
from obdbench.errors import InvalidDataError, InvalidSettingError, UnknownNameError

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


@pytest.mark.parametrize("name", ["rewards", "terminals", "timeouts"])
@pytest.mark.parametrize("full", [False, True], ids=["rows", "transitions"])
def test_a_column_of_one_number_a_row_may_be_a_table_of_one_column(tmp_path, name, full):
    arrays = columns(np.random.default_rng(3))
    arrays["terminals"][49::50] = 1
    if full:
        arrays["next_observations"] = arrays["observations"]
    np.savez(tmp_path / "walker2d-flat.npz", **arrays)
    np.savez(tmp_path / "walker2d-table.npz", **{**arrays, name: arrays[name][:, None]})
    flat, table = (load_dataset(f"file:{tmp_path}/walker2d-{k}.npz") for k in ("flat", "table"))
    assert flat.checksum == table.checksum
    np.testing.assert_array_equal(flat.timeouts, table.timeouts)


def test_a_table_of_terminals_takes_no_more_memory_than_a_column(tmp_path):
    rows = 20_000  # a square of them would be 400 MB
    rng = np.random.default_rng(4)
    np.savez(
        tmp_path / "hopper-big.npz",
        observations=rng.normal(size=(rows, 11)),
        actions=rng.uniform(-1, 1, (rows, 3)),
        rewards=np.zeros(rows),
        terminals=np.zeros((rows, 1)),
    )
    tracemalloc.start()
    try:
        assert len(load_dataset(f"file:{tmp_path}/hopper-big.npz")) == rows - 20
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"timeouts": np.zeros((N, 2), bool)}, r"holds timeouts of shape \(300, 2\)"),
        ({"terminals": np.zeros((1, N))}, "different lengths"),
        ({"terminals": np.full(N, np.nan)}, "300 values in terminals that are not finite"),
        ({"rewards": np.zeros((N, 2))}, r"holds rewards of shape \(300, 2\)"),
        ({"actions": np.full((N, 6), 50.0)}, r"actions of up to ±50; Walker2d-v4 takes -1 to 1"),
        ({"actions": np.full((N, 6), -1.01)}, r"actions of up to ±1.01"),
    ],
)
@pytest.mark.parametrize("full", [False, True], ids=["rows", "transitions"])
def test_what_would_be_misread_is_one_line(tmp_path, change, complaint, full):
    arrays = {**columns(np.random.default_rng(5)), **change}
    if full:
        arrays["next_observations"] = arrays["observations"]
    np.savez(tmp_path / "walker2d-x.npz", **arrays)
    with pytest.raises(InvalidDataError, match=complaint) as caught:
        load_dataset(f"file:{tmp_path}/walker2d-x.npz")
    assert "\n" not in str(caught.value)


def test_actions_may_be_rounded_beyond_their_bounds(tmp_path):
    arrays = columns(np.random.default_rng(6))
    arrays["actions"][0] = 1.0005
    np.savez(tmp_path / "walker2d-x.npz", **arrays)
    assert load_dataset(f"file:{tmp_path}/walker2d-x.npz").actions.max() == np.float32(1.0005)


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
