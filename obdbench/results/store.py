"""The results folder of a suite: which trials have a result, and which are missing.

::

    results/<suite>/manifest.json           every trial that is expected
                    <key>.json              one result per trial; <key>.log where it failed
                    synsets/<distill_key>/  synsets, shared by all protocols
                    .work/<distill_key>/    snapshots and partial scores of unfinished trials

Everything is written atomically. Nothing outside the suite's folder is touched.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from obdbench.errors import InvalidDataError, InvalidSettingError, ObdError
from obdbench.experiments.spec import TrialSpec
from obdbench.io import lock, write_atomically
from obdbench.results.record import MANIFEST, Manifest, Result, read_if_valid, read_json, write_json

logger = logging.getLogger(__name__)
LOCK = "lock"
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class StorageError(ObdError):
    """The results folder or the cache cannot be written, so no trial can run."""

    def __init__(self, path: Path | str, error: OSError) -> None:
        super().__init__(
            f"Cannot write {path}: {error.strerror or error}.",
            "Free space, or choose another folder (--out for results, OBDBENCH_CACHE for the "
            "cache), and continue with --resume.",
        )


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into a :class:`StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(path, error) from error


def find_disk_error(error: BaseException | None, folder: Path) -> OSError | None:
    """Return the failed write that an error comes from, if there is one.

    That is a full, read-only or broken disk, or a missing permission below ``folder``.
    """
    while error is not None:
        if isinstance(error, OSError):
            inside = error.filename is not None and str(folder) in str(error.filename)
            is_denied = inside and error.errno in (errno.EACCES, errno.EPERM)
            if error.errno in DISK_ERRORS or is_denied:
                return error
        error = error.__cause__
    return None


class ResultStore:
    """The results of one suite in one folder."""

    def __init__(self, root: Path | str, suite: str) -> None:
        if not suite or suite.startswith(".") or any(c in suite for c in "/\\\0"):
            raise InvalidSettingError(
                f"{suite!r} is not a name of a suite.", "Use letters and digits."
            )
        self.root = Path(root)
        self.suite = suite
        self.folder = self.root / suite

    @property
    def work_folder(self) -> Path:
        """Folder of snapshots and partial scores."""
        return self.folder / ".work"

    def prepare(self) -> None:
        """Create the folder, and raise an error unless it can be written."""
        with storage_errors(self.folder):
            self.work_folder.mkdir(parents=True, exist_ok=True)
            probe = self.work_folder / f"probe-{secrets.token_hex(6)}"
            write_atomically(probe, "probe\n" * 1024)
            probe.unlink()

    def remove_empty_folders(self) -> None:
        """Remove the empty folders that :meth:`prepare` made."""
        for folder in (self.work_folder, self.folder, self.root):
            with suppress(OSError):
                folder.rmdir()

    def result_path(self, key: str) -> Path:
        """Path of the result of a trial."""
        return self.folder / f"{key}.json"

    def log_path(self, key: str) -> Path:
        """Path of the traceback of a failed trial."""
        return self.folder / f"{key}.log"

    def read_result(self, key: str) -> Result | None:
        """Read the result of a trial; None if it is missing or cannot be read."""
        return read_if_valid(Result, self.result_path(key))

    def read_results(self, specs: Iterable[TrialSpec]) -> dict[str, Result]:
        """Read the results of trials, by key; trials without a readable result are absent."""
        results = {spec.key: self.read_result(spec.key) for spec in specs}
        return {key: result for key, result in results.items() if result is not None}

    def find_missing(self, specs: Iterable[TrialSpec]) -> list[TrialSpec]:
        """Return the trials that have no readable result."""
        return [spec for spec in specs if self.read_result(spec.key) is None]

    def save(self, result: Result, traceback: str | None = None) -> None:
        """Write a result, and the traceback of a failure beside it."""
        with storage_errors(self.result_path(result.key)):
            if traceback is None:
                self.log_path(result.key).unlink(missing_ok=True)
            else:
                write_atomically(self.log_path(result.key), traceback)
            write_json(result, self.result_path(result.key))

    def read_manifest(self) -> Manifest:
        """Read the trials that are expected so far."""
        path = self.folder / MANIFEST
        if not path.is_file():
            return Manifest(suite=self.suite, trials={})
        return read_json(Manifest, path)

    def add_to_manifest(self, specs: Iterable[TrialSpec], command: Sequence[str] = ()) -> Manifest:
        """Add trials, and the command that asked for them, to the manifest.

        A damaged manifest is renamed, never overwritten.
        """
        with storage_errors(self.folder), lock(self.work_folder / "manifest"):
            try:
                before = self.read_manifest()
            except InvalidDataError as error:
                renamed = self._rename_damaged_manifest()
                logger.warning("%s It was renamed to %s.", error.cause, renamed)
                before = Manifest(suite=self.suite, trials={})
            manifest = before.with_trials(specs, command)
            if manifest != before:
                write_json(manifest, self.folder / MANIFEST)
        return manifest

    def _rename_damaged_manifest(self) -> Path:
        """Rename the manifest to an unused name."""
        number = 1
        while (renamed := self.folder / f"manifest.{number}.broken").exists():
            number += 1
        os.replace(self.folder / MANIFEST, renamed)
        return renamed

    @contextmanager
    def lock_distillation(self, distill_key: str, wait: bool = True) -> Iterator[None]:
        """Keep other processes from working on a distillation; without ``wait``, fail at once."""
        folder = self.work_folder / distill_key
        acquired = None
        try:
            while acquired is None:
                with storage_errors(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # another run has just removed the work folder
                    acquired = FileLock(folder / LOCK, timeout=-1 if wait else 0).acquire()
        except Timeout as error:
            raise InvalidSettingError(
                f"Another process runs trials in {self.folder}.",
                "Wait until it ends, or stop it.",
            ) from error
        with acquired:
            yield

    def remove_failed(self, specs: Iterable[TrialSpec]) -> None:
        """Remove results without scores, but none that another run has written since."""
        for spec in specs:
            result = self.read_result(spec.key)
            if result is None or result.status != "ok":
                self.result_path(spec.key).unlink(missing_ok=True)

    def remove_trials(self, specs: Iterable[TrialSpec]) -> None:
        """Remove the results, synsets, snapshots and partial scores of trials.

        Nothing is removed if another process works on one of the trials.
        """
        specs = list(specs)
        with ExitStack() as locks, storage_errors(self.folder):
            for distill_key in sorted({spec.distill_key for spec in specs}):
                locks.enter_context(self.lock_distillation(distill_key, wait=False))
            for spec in specs:
                self.result_path(spec.key).unlink(missing_ok=True)
                self.log_path(spec.key).unlink(missing_ok=True)
                shutil.rmtree(self.folder / "synsets" / spec.distill_key, ignore_errors=True)
                for path in (self.work_folder / spec.distill_key).iterdir():
                    if path.name != LOCK:
                        path.unlink()

    def remove_work_folder(self) -> None:
        """Remove the work folder and stray files if every expected trial has its result.

        Nothing is removed if another process works on one of the trials.
        """
        with suppress(ObdError, OSError), lock(self.work_folder / "manifest"), ExitStack() as locks:
            if not all(self.result_path(key).is_file() for key in self.read_manifest().trials):
                return
            paths = [path for path in self.work_folder.glob("*/*") if path.name[0] != "."]
            if any(path.name != LOCK for path in paths):
                return
            for path in paths:
                locks.enter_context(self.lock_distillation(path.parent.name, wait=False))
            for stray in self.folder.glob(".*.json.*"):
                stray.unlink(missing_ok=True)
            shutil.rmtree(self.work_folder, ignore_errors=True)


def list_stores(root: Path) -> list[ResultStore]:
    """List the suites in a results folder; hidden folders are ignored."""
    folders = sorted(path for path in root.glob("*") if path.is_dir() and path.name[0] != ".")
    return [ResultStore(root, path.name) for path in folders]
