"""Files that are replaced in one step, locks between processes, and paths of users."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from obdbench.errors import InvalidSettingError, ObdError

T = TypeVar("T")
LOCK_TIMEOUT = 3600.0  # seconds


class LockTimeoutError(ObdError):
    """Another process holds a lock for longer than the caller waits."""


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that is renamed to it if the block succeeds.

    A reader sees the old file or the new one. Content and name are on the disk afterwards.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    with suppress(OSError):  # some network file systems cannot sync a folder
        sync(path.parent)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace the content of a file; text is stored as UTF-8."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_file(path: Path, content: bytes) -> None:
    """Replace the content of a file; a failure is an :class:`ObdError`."""
    try:
        write_atomically(path, content)
    except (OSError, ValueError) as error:  # a path without a file name is a ValueError
        raise ObdError(
            f"{path} cannot be written: {error}.", "Choose a writable folder with free space."
        ) from error


def sync(path: Path) -> None:
    """Force a file or the entries of a folder from the operating system's cache to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def expand_path(text: str) -> Path:
    """The path that a user wrote, with ``~`` expanded; an error if no path can have this text."""
    reason = "it contains a null character" if "\0" in text else ""
    path = Path(text)
    try:
        path = path.expanduser()
    except RuntimeError as error:
        reason = str(error).rstrip(".")
    if reason:
        raise InvalidSettingError(f"{text!r} is not a path: {reason}.", "Write it in full.")
    return path


@contextmanager
def lock(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock file ``<path>.lock``; the lock ends with the process that holds it."""
    from filelock import FileLock, Timeout  # imports asyncio, which takes 50 ms

    path.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(f"{path}.lock", timeout=timeout)
    try:
        file_lock.acquire()
    except Timeout as error:
        raise LockTimeoutError(
            f"Another process holds the lock of {path.name} for more than {timeout:g} seconds.",
            "Wait for that process, or stop it.",
        ) from error
    try:
        yield
    finally:
        file_lock.release()


def read_or_make(path: Path, read: Callable[[], T | None], make: Callable[[], T]) -> T:
    """Return what ``read`` finds at a path of the cache, or what ``make`` then writes there.

    One process makes it while others wait. A read-only cache, which allows no lock, can be read.
    """
    if (found := read()) is not None:
        return found
    with lock(path):
        found = read()
        return make() if found is None else found
