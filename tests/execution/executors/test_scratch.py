"""Temporary folders of a run on Ray."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.processes import run_environment

from obdbench.errors import ObdError
from obdbench.execution.executors.scratch import (
    MAX_SOCKET_PATH,
    SOCKET_SUFFIX,
    remove_abandoned_folders,
    scratch_folder,
    temporary_root,
)

HOLDER = """
import time
from obdbench.execution.executors.scratch import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="o", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    for path in folder.iterdir():
        path.rmdir()
    folder.rmdir()


def test_folder_is_removed_after_its_use(temporary):
    with scratch_folder() as folder:
        assert folder.parent == temporary
        (folder / "file").write_text("")
    assert list(temporary.iterdir()) == []


@pytest.mark.reliability(
    "fault",
    "Temporary folder of a killed process",
    injection="SIGKILL while the process has the folder locked",
    outcome="the next run removes it, and no folder that is in use",
)
def test_locked_folders_are_kept_and_abandoned_ones_removed(temporary):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdout=subprocess.PIPE,
        text=True,
        env=run_environment(temporary),
    )
    folder = Path(holder.stdout.readline().strip())
    (folder / "file").write_text("")
    (temporary / "obdbench-other").mkdir()
    remove_abandoned_folders()
    assert folder.is_dir()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert folder.is_dir()
    with scratch_folder():
        assert not folder.exists()
    assert [path.name for path in temporary.iterdir()] == ["obdbench-other"]


def test_folder_removed_before_it_is_locked_is_created_again(temporary, monkeypatch):
    """Another run may remove a folder between its creation and its lock."""
    created = []

    def create_and_remove(**options):
        created.append(mkdtemp(**options))
        if len(created) < 3:
            os.rmdir(created[-1])
        return created[-1]

    mkdtemp = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", create_and_remove)
    with scratch_folder() as folder:
        assert (len(created), str(folder)) == (3, created[-1])
        assert folder.is_dir()


def test_long_temporary_folder_is_replaced_by_a_short_one(monkeypatch):
    """The temporary folders of schedulers and of macOS are too long for Ray's sockets."""
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * (MAX_SOCKET_PATH - len(SOCKET_SUFFIX)))
    assert temporary_root() == Path("/tmp")
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir[:-1])
    assert temporary_root() == Path(tempfile.tempdir)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with scratch_folder() as folder:
        session = f"session_2026-01-01_00-00-00_000000_{os.getpid()}"
        assert len(str(folder / session / "sockets" / "plasma_store")) <= MAX_SOCKET_PATH


def test_missing_temporary_folder_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/gone")
    with pytest.raises(ObdError) as raised, scratch_folder():
        pass
    assert "TMPDIR" in raised.value.remedy
