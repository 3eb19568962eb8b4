"""How news and files travel between the nodes of a cluster and the driver.

Where all nodes see the driver's results folder only news travel. Elsewhere a worker works in a
folder of its own node, and a copy of every file it writes goes through the mailbox to the driver,
snapshots included, so that another node can go on where a lost one stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from obdbench.errors import InvalidDataError
from obdbench.execution.events import Event
from obdbench.execution.job import Job
from obdbench.io import write_atomically
from obdbench.results.store import ResultStore, storage

Parcel = tuple[str, bytes | None]  # path below the suite's folder, content or None if removed


@dataclass
class Mailbox:
    """Lives on the driver's node; workers post, the driver takes."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by job, for going on
    _events: list[Event] = field(default_factory=list)
    _parcels: list[Parcel] = field(default_factory=list)
    _stopped: bool = False

    def post(self, job: str, events: list[Event], parcels: list[Parcel]) -> None:
        """News, and files written or removed, of a job."""
        self._events += events
        self._parcels += parcels
        held = self.files.setdefault(job, {})
        for path, content in parcels:
            if content is None:
                held.pop(path, None)
            else:
                held[path] = content

    def take(self) -> tuple[list[Event], list[Parcel]]:
        """Everything that came since the last call."""
        mail = self._events, self._parcels
        self._events, self._parcels = [], []
        return mail

    def held(self, job: str) -> dict[str, bytes]:
        """The files of a job, for a worker that goes on with it."""
        return self.files.get(job, {})

    def close(self, job: str) -> None:
        """A job is done: forget its files."""
        self.files.pop(job, None)

    def stop(self) -> None:
        """Ask the run to end."""
        self._stopped = True

    def stopped(self) -> bool:
        """Whether the run is to end."""
        return self._stopped


class Courier:
    """Carries what a job writes on a node without the driver's folder."""

    def __init__(
        self, store: ResultStore, job: Job, post: Callable[[list[Event], list[Parcel]], None]
    ):
        self.store = store
        self.job = job
        self.post = post
        self._seen: dict[str, tuple[int, int]] = {}

    def unpack(self, files: dict[str, bytes]) -> None:
        """Lay out what another worker left."""
        for name, content in files.items():
            deliver(self.store, [(name, content)])
        self._seen = dict(self._stamps())

    def send(self, events: list[Event]) -> None:
        """Post news together with every file that changed since the last time."""
        stamps = dict(self._stamps())
        changed = [name for name, stamp in stamps.items() if self._seen.get(name) != stamp]
        parcels: list[Parcel] = [
            (name, (self.store.folder / name).read_bytes()) for name in changed
        ]
        parcels += [(name, None) for name in self._seen if name not in stamps]
        self._seen = stamps
        self.post(events, parcels)

    def _stamps(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for path in sorted(job_files(self.store, self.job)):
            state = path.stat()
            name = path.relative_to(self.store.folder).as_posix()
            yield name, (state.st_mtime_ns, state.st_size)


def job_files(store: ResultStore, job: Job) -> Iterator[Path]:
    """The files that belong to a job."""
    for spec in job.specs:
        yield from (path for path in (store.path(spec.key), store.log(spec.key)) if path.is_file())
    for folder in (store.folder / "synsets" / job.name, store.work / job.name):
        for path in folder.rglob("*"):
            parts = path.relative_to(folder).parts
            if path.is_file() and path.name != "lock" and not any(p[0] == "." for p in parts):
                yield path


def load_files(store: ResultStore, jobs: Iterable[Job]) -> dict[str, dict[str, bytes]]:
    """What the driver's folder holds of unfinished jobs."""
    return {
        job.name: {
            path.relative_to(store.folder).as_posix(): path.read_bytes()
            for path in job_files(store, job)
        }
        for job in jobs
    }


def deliver(store: ResultStore, parcels: Iterable[Parcel]) -> None:
    """Write or remove files below the suite's folder, and nowhere else."""
    root = store.folder.resolve()
    for name, content in parcels:
        path = (root / name).resolve()
        if not path.is_relative_to(root) or path == root:
            raise InvalidDataError(
                f"A worker sent a file for {name!r}, outside of the results.",
                "Use the same version of obdbench on every node.",
            )
        with storage(path):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_atomically(path, content)
