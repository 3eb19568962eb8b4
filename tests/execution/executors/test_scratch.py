"""Temporary folders: one's own, short enough for Ray, and swept when their process was killed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from obdbench.errors import ObdError
from obdbench.execution.executors.scratch import (
    BELOW,
    DRIVER,
    NODE,
    SOCKET_BYTES,
    place,
    scratch,
    sweep,
)

HOLD = (
    "import time\nfrom obdbench.execution.executors.scratch import *\n"
    "with scratch(NODE) as folder:\n    print(folder, flush=True)\n    time.sleep(600)\n"
)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_after_its_use(temporary):
    with scratch(NODE) as folder:
        assert folder.parent == temporary
        (folder / "file").write_text("")
    assert list(temporary.iterdir()) == []


@pytest.mark.reliability(
    "fault",
    "Temporary folder of a killed process",
    how="SIGKILL while it holds one",
    outcome="the next run removes it, and none that is in use",
)
def test_folders_in_use_are_kept_and_those_of_killed_processes_swept(temporary):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    folder = Path(holder.stdout.readline().strip())
    (folder / "file").write_text("")
    (temporary / "obdbench-other").mkdir()
    sweep(NODE)
    assert folder.is_dir()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert folder.is_dir()
    with scratch(NODE):
        assert not folder.exists()
    assert [path.name for path in temporary.iterdir()] == ["obdbench-other"]


def test_a_folder_swept_before_it_was_locked_is_made_anew(temporary, monkeypatch):
    """Another run's sweep may come between a folder's making and its lock."""
    made = []

    def swept(**given):
        made.append(mkdtemp(**given))
        if len(made) < 3:
            os.rmdir(made[-1])
        return made[-1]

    mkdtemp = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", swept)
    with scratch(NODE) as folder:
        assert (len(made), str(folder)) == (3, made[-1])
        assert folder.is_dir()


def test_rays_sockets_fit_below_a_long_temporary_folder(tmp_path, monkeypatch):
    """Schedulers' and macOS's temporary folders leave a socket's path no room."""
    monkeypatch.setattr(tempfile, "tempdir", "/x" * ((SOCKET_BYTES - BELOW) // 2 + 1))
    assert place(DRIVER) == Path("/tmp")
    assert place(NODE) == Path(tempfile.tempdir)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with scratch(DRIVER) as folder:
        session = f"session_2026-01-01_00-00-00_000000_{os.getpid()}"
        assert len(str(folder / session / "sockets" / "plasma_store")) <= SOCKET_BYTES


def test_no_temporary_folder_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ObdError, match=r"temporary folder cannot be used.*TMPDIR"), scratch(NODE):
        pass
