"""Where results lie, and which are still missing.

::

    results/<suite>/manifest.json           every trial that is expected
                    <key>.json              one result a trial; <key>.log where it failed
                    synsets/<distill_key>/  what was distilled, shared by all protocols
                    .work/<distill_key>/    snapshots and partial scores of unfinished trials

Everything is written atomically. Nothing outside the suite's folder is touched.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from obdbench.errors import InvalidDataError, InvalidSettingError, ObdError
from obdbench.experiments.spec import TrialSpec
from obdbench.io import lock, write_atomically
from obdbench.results.record import Manifest, Result, read_json, write_json

logger = logging.getLogger(__name__)
LOCK = "lock"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class StorageError(ObdError):
    """The results folder cannot be written: no trial can go on."""

    def __init__(self, path: Path | str, error: OSError) -> None:
        super().__init__(
            f"Cannot write {path}: {error.strerror or error}.",
            "Free space, or choose another folder with --out, and go on with --resume.",
        )


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one clear error."""
    try:
        yield
    except OSError as error:
        raise StorageError(path, error) from error


def refused(error: BaseException | None, folder: Path) -> OSError | None:
    """The disk's refusal to write below a folder, if that is what an error comes from."""
    while error is not None:
        if isinstance(error, OSError):
            inside = error.filename is not None and str(folder) in str(error.filename)
            if error.errno in FULL or (inside and error.errno in (errno.EACCES, errno.EPERM)):
                return error
        error = error.__cause__
    return None


class ResultStore:
    """The results of one suite in one folder."""

    def __init__(self, root: Path | str, suite: str) -> None:
        if not suite or suite.startswith(".") or any(c in suite for c in "/\\\0"):
            raise InvalidSettingError(f"{suite!r} cannot name a suite.", "Use letters and digits.")
        self.root = Path(root)
        self.suite = suite
        self.folder = self.root / suite

    @property
    def work(self) -> Path:
        """Folder of unfinished work."""
        return self.folder / ".work"

    def prepare(self) -> None:
        """Insist, before any work, that the folder can be written."""
        with storage(self.folder):
            self.work.mkdir(parents=True, exist_ok=True)
            probe = self.work / f"probe-{os.getpid()}"
            write_atomically(probe, "probe\n" * 1024)
            probe.unlink()

    def remove_empty_folders(self) -> None:
        """Remove the empty folders that :meth:`prepare` made."""
        for folder in (self.work, self.folder, self.root):
            with suppress(OSError):
                folder.rmdir()

    def path(self, key: str) -> Path:
        """Where a trial's result lies."""
        return self.folder / f"{key}.json"

    def log(self, key: str) -> Path:
        """Where the traceback of a failed trial lies."""
        return self.folder / f"{key}.log"

    def result(self, key: str) -> Result | None:
        """A trial's result; None where it is missing or cannot be read."""
        if not self.path(key).is_file():
            return None
        try:
            return read_json(Result, self.path(key))
        except InvalidDataError:
            return None

    def save(self, result: Result, traceback: str | None = None) -> None:
        """Keep a result, and a failure's traceback beside it."""
        with storage(self.path(result.key)):
            if traceback is None:
                self.log(result.key).unlink(missing_ok=True)
            else:
                write_atomically(self.log(result.key), traceback)
            write_json(result, self.path(result.key))

    def manifest(self) -> Manifest:
        """The trials expected so far."""
        path = self.folder / "manifest.json"
        if not path.is_file():
            return Manifest(suite=self.suite, trials={})
        return read_json(Manifest, path)

    def expect(self, specs: Iterable[TrialSpec], command: Sequence[str] = ()) -> Manifest:
        """Add trials, and the command that asked for them, to the manifest.

        A damaged manifest is renamed, never overwritten.
        """
        with storage(self.folder), lock(self.work / "manifest"):
            try:
                before = self.manifest()
            except InvalidDataError as error:
                logger.warning("%s It was renamed to %s.", error.cause, self._set_aside())
                before = Manifest(suite=self.suite, trials={})
            manifest = before.with_trials(specs, command)
            if manifest != before:
                write_json(manifest, self.folder / "manifest.json")
        return manifest

    def _set_aside(self) -> Path:
        """Move a damaged manifest to a name that nothing has."""
        number = 1
        while (aside := self.folder / f"manifest.{number}.broken").exists():
            number += 1
        os.replace(self.folder / "manifest.json", aside)
        return aside

    def read_results(self, specs: Iterable[TrialSpec]) -> dict[str, Result]:
        """Read the results of trials, by key; trials without a readable result are absent."""
        results = {spec.key: self.result(spec.key) for spec in specs}
        return {key: result for key, result in results.items() if result is not None}

    def missing(self, specs: Iterable[TrialSpec]) -> list[TrialSpec]:
        """Return the trials that have no readable result."""
        return [spec for spec in specs if self.result(spec.key) is None]

    def remove_failed(self, specs: Iterable[TrialSpec]) -> None:
        """Remove results without scores, but none that another run has written since."""
        for spec in specs:
            result = self.result(spec.key)
            if result is None or result.status != "ok":
                self.path(spec.key).unlink(missing_ok=True)

    @contextmanager
    def lock(self, distill_key: str, wait: bool = True) -> Iterator[None]:
        """Keep other processes from working on a distillation, or refuse where one does."""
        folder, held = self.work / distill_key, None
        try:
            while held is None:
                with storage(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # where another run has just tidied up
                    held = FileLock(folder / LOCK, timeout=-1 if wait else 0).acquire()
        except Timeout as error:
            raise InvalidSettingError(
                f"Another process is at work on trials in {self.folder}.",
                "Wait until it is done, or stop it.",
            ) from error
        with held:
            yield

    def forget(self, specs: Iterable[TrialSpec]) -> None:
        """Remove what trials left behind: results, synsets and unfinished work.

        Where another process is at work on one of them, nothing of any is removed.
        """
        specs = list(specs)
        with ExitStack() as locks, storage(self.folder):
            for distill_key in sorted({spec.distill_key for spec in specs}):
                locks.enter_context(self.lock(distill_key, wait=False))
            for spec in specs:
                self.path(spec.key).unlink(missing_ok=True)
                self.log(spec.key).unlink(missing_ok=True)
                shutil.rmtree(self.folder / "synsets" / spec.distill_key, ignore_errors=True)
                for left in (self.work / spec.distill_key).iterdir():
                    if left.name != LOCK:
                        left.unlink()

    def tidy(self, manifest: Manifest) -> None:
        """If every expected trial has its result, remove the working folder and stray files."""
        if not all(self.path(key).is_file() for key in manifest.trials):
            return
        for stray in self.folder.glob(".*.json.*"):
            stray.unlink(missing_ok=True)
        kept = [path for path in self.work.glob("*/*") if path.name[0] != "."]
        if all(path.name == LOCK for path in kept):
            with suppress(InvalidSettingError, StorageError, OSError), ExitStack() as locks:
                for path in kept:
                    locks.enter_context(self.lock(path.parent.name, wait=False))
                shutil.rmtree(self.work, ignore_errors=True)


def stores(root: Path) -> list[ResultStore]:
    """The suites' folders below a results folder; hidden ones are somebody else's."""
    found = sorted(path for path in root.glob("*") if path.is_dir() and path.name[0] != ".")
    return [ResultStore(root, path.name) for path in found]
