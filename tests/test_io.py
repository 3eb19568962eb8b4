"""Files appear whole or not at all, and locks exclude other holders."""

import os
from pathlib import Path

import pytest

from obdbench.io import (
    LockTimeoutError,
    lock,
    read_or_make,
    replace_atomically,
    write_atomically,
)


def test_text_and_bytes_replace_the_old_content(tmp_path: Path):
    path = tmp_path / "folder" / "file"
    write_atomically(path, "é")
    assert path.read_bytes() == "é".encode()
    write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(path.parent.iterdir()) == [path]


def test_failure_keeps_the_old_content(tmp_path: Path):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail_halfway():
        with replace_atomically(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_the_rename_and_the_name_after_it(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: calls.append(n) or r(*a))
    write_atomically(tmp_path / "file", "new")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_cached_value_is_read_without_the_lock_and_made_once(tmp_path: Path):
    path, made = tmp_path / "folder" / "file", []

    def read() -> str | None:
        return path.read_text() if path.is_file() else None

    def make() -> str:
        made.append(path)
        write_atomically(path, "value")
        return "value"

    assert read_or_make(path, read, make) == "value"
    with lock(path):
        assert read_or_make(path, read, make) == "value"
    assert made == [path]


def test_a_lock_that_stays_held_is_one_error(tmp_path: Path):
    path = tmp_path / "folder" / "file"
    with lock(path), pytest.raises(LockTimeoutError), lock(path, timeout=0.05):
        pass
    with lock(path, timeout=0.05):
        assert path.parent.is_dir()
