"""Temporary folders of a run on Ray, which are removed even if the process of the run is killed.

A folder is locked by the process that creates it, and the lock ends with that process. The next run
removes every folder that is not locked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from obdbench.errors import ObdError

PREFIX = "obdbench-ray-"
SHORT_FOLDER = "/tmp"
MAX_SOCKET_PATH = 107  # bytes; the limit of the operating system
# what this module and Ray append to the temporary folder
SOCKET_SUFFIX = f"/{PREFIX}12345678/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"


def temporary_root() -> Path:
    """The temporary folder, or ``/tmp`` if its path is too long for Ray's sockets."""
    usual = tempfile.gettempdir()
    too_long = len(usual) + len(SOCKET_SUFFIX) > MAX_SOCKET_PATH
    return Path(SHORT_FOLDER if too_long else usual)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new temporary folder, locked by this process and removed at the end."""
    remove_abandoned_folders()
    try:
        folder, lock = _create_locked_folder()
    except OSError as error:
        raise ObdError(
            f"The temporary folder cannot be used: {error.strerror or error}.",
            "Free space in it, or set TMPDIR to another one.",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _create_locked_folder() -> tuple[Path, int]:
    """A new folder and its lock; repeated if another run removes the folder before it is locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=temporary_root()))
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def remove_abandoned_folders() -> None:
    """Remove the folders that no process has locked."""
    for folder in temporary_root().glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
