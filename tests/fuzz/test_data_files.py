"""Every kind of dataset file: damaged bytes, and valid containers of junk."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import altered, altered_arrays, as_json, damaged
from support.fuzzing import ReadCounter, examples, reading_test

from obdbench.datasets import d4rl, embedded
from obdbench.datasets import file as user_file
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.packing import pack
from obdbench.tasks.task import TASKS

N = 40
NAME = "hopper-medium-v1"


def columns() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ends = np.arange(N) % 10 == 9
    return {
        "observations": rng.normal(size=(N, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(N, 3)).astype(np.float32),
        "rewards": rng.normal(size=N).astype(np.float32),
        "terminals": ends & (np.arange(N) % 20 == 9),
        "timeouts": ends & (np.arange(N) % 20 == 19),
    }


def with_next() -> dict[str, Any]:
    arrays = columns()
    return arrays | {"next_observations": np.roll(arrays["observations"], -1, axis=0)}


def hdf5(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            known = array.astype("S") if array.dtype.kind == "U" else array
            file.create_dataset(name, data=known, compression="gzip" if array.ndim else None)
    return buffer.getvalue()


def npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


WRITERS = {"hdf5": hdf5, "npz": npz}
VALID_FILES = {
    (kind, full): WRITERS[kind](with_next() if full else columns())
    for kind in WRITERS
    for full in (False, True)
}


def assert_usable(dataset: Dataset) -> None:
    """Use what a reader accepts."""
    assert np.isfinite(dataset.states).all()
    assert len(dataset.checksum) == 64
    dataset.episode_returns()


@reading_test("own HDF5 and NPZ files")
@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_damaged_file(kind: str, folder: Path, read_counter: ReadCounter) -> None:
    @examples(75)
    @given(st.data(), st.booleans())
    def check(data: st.DataObject, full: bool) -> None:
        path = folder / f"hopper.{kind}"
        path.write_bytes(data.draw(damaged(VALID_FILES[kind, full])))
        read_counter.read(lambda: user_file.load(f"file:{path}"), assert_usable)

    path = folder / f"hopper.{kind}"
    path.write_bytes(VALID_FILES[kind, True])
    read_counter.read(lambda: user_file.load(f"file:{path}"), assert_usable)
    assert read_counter.accepted  # the undamaged file; checksums of NPZ detect almost any damage
    check()
    assert read_counter.rejected


@reading_test("own HDF5 and NPZ files")
@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_invalid_arrays_in_a_valid_file(kind: str, folder: Path, read_counter: ReadCounter) -> None:
    @examples(50)
    @given(altered_arrays(with_next()), st.booleans())
    def check(arrays: dict[str, Any], full: bool) -> None:
        if not full:
            arrays.pop("next_observations", None)
        path = folder / f"hopper.{kind}"
        path.write_bytes(WRITERS[kind](arrays))
        read_counter.read(lambda: user_file.load(f"file:{path}"), assert_usable)

    check()
    assert read_counter.rejected
    assert read_counter.accepted


@examples(30)
@given(st.data())
def check_d4rl(folder: Path, read_counter: ReadCounter, data: st.DataObject) -> None:
    content = VALID_FILES["hdf5", False]
    if data.draw(st.booleans()):
        content = hdf5(data.draw(altered_arrays(columns())))
    else:
        content = data.draw(damaged(content))
    (folder / "hopper_medium-v2.hdf5").write_bytes(content)
    read_counter.read(lambda: d4rl.load("d4rl/hopper-medium-v2", progress=False), assert_usable)


@reading_test("D4RL files")
def test_d4rl_file(
    folder: Path, read_counter: ReadCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D4RL_DATASET_DIR", str(folder))
    check_d4rl(folder, read_counter)
    assert read_counter.rejected
    assert read_counter.accepted


def packed() -> bytes:
    arrays = with_next()
    return pack(Dataset(id="toy", task=TASKS["hopper"], **arrays))


PACKED = packed()


def embedded_pair(folder: Path, content: bytes, card: Any) -> None:
    """A data file and its card, whatever they contain."""
    (folder / f"{NAME}.npz").write_bytes(content)
    (folder / f"{NAME}.json").write_bytes(card if isinstance(card, bytes) else as_json(card))


def card_of(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "episodes": 4}


@reading_test("embedded data and their cards, checksums forged too")
def test_embedded_data(folder: Path, read_counter: ReadCounter) -> None:
    """Also where the card has the checksum of the damaged file."""
    arrays = dict(np.load(io.BytesIO(PACKED)))

    @examples(60)
    @given(st.data(), st.sampled_from(["bytes", "arrays", "card", "card's bytes"]))
    def check(data: st.DataObject, what: str) -> None:
        content, card = PACKED, card_of(PACKED)
        if what == "bytes":
            card = card_of(content := data.draw(damaged(PACKED)))
        elif what == "arrays":
            card = card_of(content := npz(data.draw(altered_arrays(arrays))))
        elif what == "card":
            card = data.draw(altered(card))
        else:
            card = data.draw(damaged(json.dumps(card).encode()))
        embedded_pair(folder, content, card)
        read_counter.read(lambda: embedded.load(f"embedded/{NAME}", folder), assert_usable)

    check()
    assert read_counter.rejected
    assert read_counter.accepted
