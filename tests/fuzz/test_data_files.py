"""Every file that holds a dataset: damaged bytes, and sound containers of junk."""

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
from support.fuzzing import Tried, examples, reader

from obdbench.collection import reconstruct
from obdbench.datasets import d4rl, embedded
from obdbench.datasets import file as own_files
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.packing import pack
from obdbench.tasks.task import TASKS

N = 40
NAME = "hopper-medium-v0"


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
    held = columns()
    return held | {"next_observations": np.roll(held["observations"], -1, axis=0)}


def hdf5(held: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in held.items():
            known = array.astype("S") if array.dtype.kind == "U" else array
            file.create_dataset(name, data=known, compression="gzip" if array.ndim else None)
    return buffer.getvalue()


def npz(held: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **held)
    return buffer.getvalue()


WRITERS = {"hdf5": hdf5, "npz": npz}
SOUND = {
    (kind, full): WRITERS[kind](with_next() if full else columns())
    for kind in WRITERS
    for full in (False, True)
}


def as_dataset(found: Dataset) -> None:
    """What a reader takes can be used."""
    assert np.isfinite(found.states).all()
    assert len(found.checksum) == 64
    found.episode_returns()


@reader("own HDF5 and NPZ files")
@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_damaged_file(kind: str, place: Path, tried: Tried) -> None:
    @examples(150)
    @given(st.data(), st.booleans())
    def check(data: st.DataObject, full: bool) -> None:
        path = place / f"hopper.{kind}"
        path.write_bytes(data.draw(damaged(SOUND[kind, full])))
        tried.reads(lambda: own_files.load(f"file:{path}"), as_dataset)

    check()
    assert tried.refused
    assert tried.taken


@reader("own HDF5 and NPZ files")
@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_junk_in_a_sound_file(kind: str, place: Path, tried: Tried) -> None:
    @examples(100)
    @given(altered_arrays(with_next()), st.booleans())
    def check(held: dict[str, Any], full: bool) -> None:
        if not full:
            held.pop("next_observations", None)
        path = place / f"hopper.{kind}"
        path.write_bytes(WRITERS[kind](held))
        tried.reads(lambda: own_files.load(f"file:{path}"), as_dataset)

    check()
    assert tried.refused
    assert tried.taken


@examples(60)
@given(st.data())
def check_d4rl(place: Path, tried: Tried, data: st.DataObject) -> None:
    whole = SOUND["hdf5", False]
    if data.draw(st.booleans()):
        whole = hdf5(data.draw(altered_arrays(columns())))
    else:
        whole = data.draw(damaged(whole))
    (place / "hopper_medium-v2.hdf5").write_bytes(whole)
    tried.reads(lambda: d4rl.load("d4rl/hopper-medium-v2", progress=False), as_dataset)


@reader("D4RL files")
def test_d4rl_file(place: Path, tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D4RL_DATASET_DIR", str(place))
    check_d4rl(place, tried)
    assert tried.refused
    assert tried.taken


def packed() -> bytes:
    held = with_next()
    return pack(Dataset(id="toy", task=TASKS["hopper"], **held))


PACKED = packed()


def embedded_pair(place: Path, blob: bytes, card: Any) -> None:
    """A data file and the card that vouches for it, whatever either holds."""
    (place / f"{NAME}.npz").write_bytes(blob)
    (place / f"{NAME}.json").write_bytes(card if isinstance(card, bytes) else as_json(card))


def vouched(blob: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(blob).hexdigest(), "episodes": 4}


@reader("embedded data and their cards, checksums forged too")
def test_embedded_data(place: Path, tried: Tried) -> None:
    """Also where the card has the checksum of the damaged file."""
    held = dict(np.load(io.BytesIO(PACKED)))

    @examples(120)
    @given(st.data(), st.sampled_from(["bytes", "arrays", "card", "card's bytes"]))
    def check(data: st.DataObject, what: str) -> None:
        blob, card = PACKED, vouched(PACKED)
        if what == "bytes":
            card = vouched(blob := data.draw(damaged(PACKED)))
        elif what == "arrays":
            card = vouched(blob := npz(data.draw(altered_arrays(held))))
        elif what == "card":
            card = data.draw(altered(card))
        else:
            card = data.draw(damaged(json.dumps(card).encode()))
        embedded_pair(place, blob, card)
        tried.reads(lambda: embedded.load(f"embedded/{NAME}", place), as_dataset)

    check()
    assert tried.refused
    assert tried.taken


def usable(found: Dataset) -> None:
    """What `obdbench data verify` shows of it can be shown."""
    as_dataset(found)
    assert "means off by" in reconstruct.format_agreement(found.card)


def stand_in(card: bytes) -> dict[str, Any]:
    return with_next() | {"card": np.frombuffer(card, dtype=np.uint8)}


@reader("cached stand-ins")
def test_cached_stand_in(place: Path, tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDBENCH_CACHE", str(place))
    path = reconstruct.cache_path("hopper-medium-v2")
    path.parent.mkdir()
    card = {"stand_in_for": "d4rl/hopper-medium-v2", "within_goal": True, "mean_error": 0.01}
    card |= {f"spread_ratio_{which}": 1.0 for which in ("smallest", "median", "largest")}
    sound = stand_in(json.dumps(card).encode())

    @examples(120)
    @given(st.data(), st.sampled_from(["bytes", "arrays", "card", "card's bytes"]))
    def check(data: st.DataObject, what: str) -> None:
        if what == "bytes":
            path.write_bytes(data.draw(damaged(npz(sound))))
        elif what == "arrays":
            path.write_bytes(npz(data.draw(altered_arrays(sound))))
        elif what == "card":
            path.write_bytes(npz(stand_in(as_json(data.draw(altered(card))))))
        else:
            path.write_bytes(npz(stand_in(data.draw(damaged(as_json(card))))))
        tried.reads(lambda: reconstruct.load("recon/hopper-medium-v2"), usable)

    check()
    assert tried.refused
    assert tried.taken
