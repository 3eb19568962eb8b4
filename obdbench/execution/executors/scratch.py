"""Temporary folders that do not outlive their use, even where their process is killed.

A folder is locked by the process that made it, and the lock goes with the process: the next run
removes whatever nobody holds any more.
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

DRIVER, NODE = "obdbench-ray-", "obdbench-node-"
SHORT = "/tmp"
SOCKET_BYTES = 107  # what the operating system allows for a socket's path
BELOW = len(f"/{DRIVER}4194304-12345678/session_2026-01-01_00-00-00_000000_4194304") + len(
    "/sockets/plasma_store"
)


def place(prefix: str) -> Path:
    """The temporary folder, or ``/tmp`` where its name leaves Ray's sockets no room."""
    usual = tempfile.gettempdir()
    return Path(SHORT if prefix == DRIVER and len(usual) + BELOW > SOCKET_BYTES else usual)


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder of this process's own, after what killed ones left is swept."""
    sweep(prefix)
    try:
        folder, handle = _locked(prefix)
    except OSError as error:
        raise ObdError(
            f"The temporary folder cannot be used: {error.strerror or error}.",
            "Free space there, or name another one in TMPDIR.",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _locked(prefix: str) -> tuple[Path, int]:
    """A new folder and the handle that locks it; anew where a sweep came between the two."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=place(prefix)))
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if folder.exists():
                return folder, handle
            os.close(handle)


def sweep(prefix: str) -> None:
    """Remove scratch folders that no process holds."""
    for folder in place(prefix).glob(f"{prefix}*"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
