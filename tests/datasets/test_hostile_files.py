"""Every hostile file ends in one clear error, and runs nothing."""

from __future__ import annotations

import pickle
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from support.hostile_files import (
    EXECUTED,
    HOSTILE_FILES,
    Exploit,
    valid_checkpoint,
    write_valid_file,
)

from obdbench.datasets import file as user_file
from obdbench.datasets.dataset import Standardizer
from obdbench.errors import InvalidDataError
from obdbench.teachers import checkpoint


def read_checkpoint(path: Path):
    moments = Standardizer(np.zeros(11, np.float32), np.ones(11, np.float32))
    return checkpoint.teacher_from_checkpoint(
        checkpoint.read_checkpoint(path), "hopper-test", moments, {}
    )


def read(path: Path):
    return read_checkpoint(path) if path.suffix == ".pt" else user_file.load(f"file:{path}#hopper")


@pytest.mark.reliability(
    "input",
    "Hostile datasets and checkpoints",
    injection="HDF5, NPZ and .pt files with code, bombs, links, wrong shapes and values, by hand",
    outcome="one `ObdError`; nothing in them runs and nothing is written",
)
@pytest.mark.parametrize("case", HOSTILE_FILES)
def test_hostile_file_is_one_clear_error(case, tmp_path):
    make, message = HOSTILE_FILES[case]
    path = make(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(InvalidDataError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert EXECUTED == []
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["hdf5", "npz", "pt"])
def test_the_same_reader_accepts_a_valid_file(kind, tmp_path):
    assert read(write_valid_file(tmp_path, kind)) is not None


def test_the_exploit_would_run_if_it_were_unpickled():
    pickle.loads(pickle.dumps(Exploit()))
    assert EXECUTED == ["executed"]
    EXECUTED.clear()


def test_the_foreign_class_is_replaced_and_forgotten(tmp_path, monkeypatch):
    class Scalar(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.constant = torch.nn.Parameter(torch.ones(()))

    Scalar.__module__, Scalar.__qualname__ = "__main__", "Scalar"
    monkeypatch.setattr(sys.modules["__main__"], "Scalar", Scalar, raising=False)
    content = valid_checkpoint()
    content["alpha"] = Scalar()
    torch.save(content, tmp_path / "teacher.pt")
    monkeypatch.delattr(sys.modules["__main__"], "Scalar")
    content = checkpoint.read_checkpoint(tmp_path / "teacher.pt")
    assert vars(content["alpha"]) == {}
    assert read_checkpoint(tmp_path / "teacher.pt").action_size == 3


@pytest.mark.reliability(
    "input",
    "Datasets and checkpoints with one bit flipped",
    injection="60 random bits each of an HDF5, an NPZ and a .pt file",
    outcome="one `ObdError`, or a valid content",
)
@pytest.mark.parametrize("kind", ["hdf5", "npz", "pt"])
def test_random_damage_never_escapes(kind, tmp_path, attempts):
    """Sixty bits flipped, one at a time: an `ObdError` or a valid content, nothing else."""
    path = write_valid_file(tmp_path, kind)
    intact = path.read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.integers(len(intact), size=60):
        damage = bytearray(intact)
        damage[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damage)
        with attempts, suppress(InvalidDataError):
            read(path)
