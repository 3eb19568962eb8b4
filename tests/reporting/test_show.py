"""What `show` prints of results and synsets, sound and otherwise."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.result_entries import checked_entry

from obdbench.errors import InvalidDataError
from obdbench.reporting.show import describe_file
from obdbench.reporting.tables.captions import HIGH_MISSED_VARIANCE
from obdbench.reporting.tables.table import MISSING
from obdbench.results.record import write_json


def test_a_result_is_described(results_root):
    results = (p for p in (results_root / "d4rl").glob("*.json") if p.name != "manifest.json")
    text = describe_file(max(results, key=lambda path: path.stat().st_size))
    for word in ("objective", "av-pbc", "cross-architecture", "mlp2:", "residual:", "3/3 seeds"):
        assert word in text
    assert "Hopper-v4" in text or "Walker2d-v4" in text or "HalfCheetah-v4" in text


def test_a_failed_result_states_its_reason(d4rl, results_root):
    failed = next(entry for entry in d4rl.entries if entry.record.status == "failed")
    assert "failed: out of memory" in describe_file(results_root / "d4rl" / failed.file)


def test_checks_of_students_are_described_and_marked(tmp_path):
    record = checked_entry("pbc", {0: [1.0, 0.2], 1: [1.0, 0.3, None], 2: []}).record
    record = record.model_copy(
        update={"status": "failed", "infinite_width_ended_at": {"1": 20}, "error": "none"}
    )
    path = tmp_path / f"{record.key}.json"
    write_json(record, path)
    lines = describe_file(path).splitlines()
    heading = lines.index("checks of students:")
    assert lines[heading + 2].split() == ["0", "0.2", "0.2", "10", "0.2", "10", "2", MISSING]
    assert lines[heading + 3].split() == [
        *("1", HIGH_MISSED_VARIANCE, "diverged", "diverged", "20", "0.3", "10", "3", "20")
    ]
    assert lines[heading + 4].startswith(HIGH_MISSED_VARIANCE)


@pytest.fixture
def synset(tmp_path: Path) -> Path:
    path = tmp_path / "one.safetensors"
    arrays = {"states": np.zeros((256, 11), np.float32), "actions": np.zeros((256, 3), np.float32)}
    save_file(arrays, path)
    return path


def test_a_synset_is_described(synset):
    synset.with_suffix(".json").write_text(json.dumps({"objective": "pbc", "seed": 1}))
    text = describe_file(synset)
    assert "256 × 11 F32" in text
    assert "pbc" in text
    assert describe_file(synset.with_suffix(".json")) == text


def test_a_synset_needs_no_card(synset):
    assert "256 × 3 F32" in describe_file(synset)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 4) + b"[1]]",
        struct.pack("<Q", 9) + b'{"a": {}}',
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
)
def test_corrupt_synsets_are_an_error(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidDataError, match=r"x\.safetensors"):
        describe_file(path)


def test_a_corrupt_card_is_an_error(synset):
    synset.with_suffix(".json").write_text("{")
    with pytest.raises(InvalidDataError, match=r"one\.json"):
        describe_file(synset)


def test_control_characters_do_not_reach_the_terminal(synset):
    synset.with_suffix(".json").write_text(json.dumps({"objective": "\x1b[2Jpbc"}))
    assert "\x1b" not in describe_file(synset)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InvalidDataError, match="no file"):
        describe_file(tmp_path / "nothing.json")


def test_other_files_and_folders_are_an_error(synset, results_root):
    data = synset.with_suffix(".hdf5")  # another file of the same stem, which is not asked for
    data.write_bytes(b"\x89HDF")
    for path in (data, results_root / "d4rl" / "manifest.json"):
        with pytest.raises(InvalidDataError, match="synset"):
            describe_file(path)
    with pytest.raises(InvalidDataError, match="folder"):
        describe_file(results_root / "d4rl")
