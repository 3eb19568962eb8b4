"""``file:`` identifiers and what they read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from obdbench.datasets.arrays import SizeBudget
from obdbench.datasets.file import resolve_path_and_task
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError, InvalidSettingError, UnknownNameError
from obdbench.tasks.task import TASKS

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
    from_npz = load_dataset(f"file:{tmp_path}/walker2d-mine.npz")
    from_hdf5 = load_dataset(f"file:{tmp_path}/walker2d-mine.hdf5")
    assert from_npz.checksum == from_hdf5.checksum
    assert from_npz.task.name == "walker2d"
    assert len(from_npz) == N - 3
    assert from_npz.observations.dtype == np.float32
    assert from_npz.terminals.dtype == bool


def test_a_file_that_ends_within_an_episode_has_no_complete_one(tmp_path):
    arrays = columns(np.random.default_rng(0))
    arrays["timeouts"][:] = False
    np.savez(tmp_path / "walker2d-mine.npz", **arrays)
    assert not len(load_dataset(f"file:{tmp_path}/walker2d-mine.npz").episode_returns())


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
def test_scalar_columns_may_have_the_shape_n_1(tmp_path, name, full):
    arrays = columns(np.random.default_rng(3))
    arrays["terminals"][49::50] = 1
    if full:
        arrays["next_observations"] = arrays["observations"]
    np.savez(tmp_path / "walker2d-flat.npz", **arrays)
    np.savez(tmp_path / "walker2d-table.npz", **{**arrays, name: arrays[name][:, None]})
    flat, table = (load_dataset(f"file:{tmp_path}/walker2d-{k}.npz") for k in ("flat", "table"))
    assert flat.checksum == table.checksum
    np.testing.assert_array_equal(flat.timeouts, table.timeouts)


def test_terminals_of_the_shape_n_1_take_no_more_memory_than_a_vector(tmp_path):
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


def write_claiming_file(path, rows: int, width: int = 11) -> str:
    """Write a small file that claims many rows of one-byte numbers; returns its identifier."""
    shapes = {"observations": (rows, width), "actions": (rows, 3), "rewards": (rows,)}
    with h5py.File(path, "w") as file:
        for name, shape in {**shapes, "terminals": (rows,)}.items():
            chunks = (min(rows, 10_000), *shape[1:])
            file.create_dataset(name, shape=shape, dtype="u1", chunks=chunks)
    assert path.stat().st_size < 10_000
    return f"file:{path}"


def peak_of_refusing(dataset_id: str, message: str) -> int:
    """Peak of the bytes allocated while a file is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidDataError, match=message):
            load_dataset(dataset_id)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_numbers_of_one_byte_count_as_single_precision(tmp_path, monkeypatch):
    monkeypatch.setattr("obdbench.datasets.arrays.MAX_BYTES", 20_000_000)
    row_bytes = (11 * 2 + 3 + 1 + 1) * 4  # next observations are derived from the observations
    dataset_id = write_claiming_file(tmp_path / "hopper-x.hdf5", 20_000_000 // row_bytes)
    assert len(load_dataset(dataset_id)) > 180_000
    dataset_id = write_claiming_file(tmp_path / "hopper-x.hdf5", 20_000_000 // row_bytes + 1)
    assert peak_of_refusing(dataset_id, "claims .* bytes of terminals") < 10_000_000
    dataset_id = write_claiming_file(tmp_path / "hopper-x.hdf5", 1_500_000)
    assert peak_of_refusing(dataset_id, "claims 132,000,000 bytes of observations") < 1_000_000


def test_an_array_of_another_tasks_width_is_refused_before_it_is_read(tmp_path):
    dataset_id = write_claiming_file(tmp_path / "hopper-x.hdf5", 1_000_000, width=17)
    message = r"observations of shape \(1000000, 17\); Hopper-v4 needs 11 numbers per row"
    assert peak_of_refusing(dataset_id, message) < 1_000_000


@pytest.mark.parametrize("full", [False, True], ids=["rows", "transitions"])
def test_two_million_rows_of_any_task_are_within_the_bound(full):
    names = ["observations", "actions", "rewards", "terminals", "timeouts"]
    names += ["next_observations"] if full else []
    for task in TASKS.values():
        widths = dict.fromkeys(names[:1] + names[5:], task.observation_size)
        widths["actions"] = task.action_size
        budget = SizeBudget(Path("x.hdf5"), names, task)
        for name in names:
            shape = (2_000_000, widths[name]) if name in widths else (2_000_000,)
            budget.claim(name, shape, np.dtype(np.float32))
        assert budget.remaining > 1_000_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timeouts": np.zeros((N, 2), bool)}, r"contains timeouts of shape \(300, 2\)"),
        ({"terminals": np.zeros((1, N))}, "different lengths"),
        ({"terminals": np.full(N, np.nan)}, "300 values in terminals that are not finite"),
        ({"rewards": np.zeros((N, 2))}, r"contains rewards of shape \(300, 2\)"),
        ({"actions": np.full((N, 6), 50.0)}, r"actions of up to ±50; Walker2d-v4 takes -1 to 1"),
        ({"actions": np.full((N, 6), -1.01)}, r"actions of up to ±1.01"),
    ],
)
@pytest.mark.parametrize("full", [False, True], ids=["rows", "transitions"])
def test_columns_that_would_be_misread_are_refused_in_one_line(tmp_path, change, message, full):
    arrays = {**columns(np.random.default_rng(5)), **change}
    if full:
        arrays["next_observations"] = arrays["observations"]
    np.savez(tmp_path / "walker2d-x.npz", **arrays)
    with pytest.raises(InvalidDataError, match=message) as caught:
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


def test_the_task_must_be_known(tmp_path):
    assert resolve_path_and_task("file:/a/hopper_x.npz")[1].name == "hopper"
    assert resolve_path_and_task("file:/a/hopper_x.npz#walker2d")[1].name == "walker2d"
    (tmp_path / "data.npz").touch()
    with pytest.raises(InvalidSettingError, match="task"):
        resolve_path_and_task(f"file:{tmp_path / 'data.npz'}")
    with pytest.raises(InvalidDataError, match="There is no file"):
        resolve_path_and_task("file:/a/data.npz")
    with pytest.raises(UnknownNameError, match="walker2d"):
        resolve_path_and_task("file:/a/data.npz#walker")
    with pytest.raises(InvalidSettingError, match="names no file"):
        resolve_path_and_task("file:")
