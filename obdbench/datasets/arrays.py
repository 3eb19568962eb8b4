"""Arrays out of HDF5 and NPZ files of strangers.

Nothing is unpickled, no other file is followed to, and what a header claims is bounded before a
byte of it is allocated: a small file cannot ask for data of more than :data:`MAX_BYTES`, in the
single precision that it is made.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from obdbench.datasets.dataset import Array
from obdbench.errors import InvalidDataError, ObdError
from obdbench.tasks.task import Task

MAX_BYTES = 1536 * 1024 * 1024
MAX_CHUNK = 128 * 1024 * 1024
NUMERIC = "fiub"
SINGLE = 4  # bytes of a number in single precision
PER_ROW = ("rewards", "terminals", "timeouts")
KNOWN_FILTERS = {1, 2, 3, 32000}  # gzip, shuffle, fletcher32, lzf


def read_arrays(path: Path, names: Iterable[str], task: Task | None = None) -> dict[str, Array]:
    """Those of the named arrays that an ``.hdf5``, ``.h5`` or ``.npz`` file holds.

    Where the ``task`` is known, tables of another width are refused before they are read.
    """
    readers: dict[str, Callable[[Path, list[str], Task | None], dict[str, Array]]] = {
        ".hdf5": _read_hdf5,
        ".h5": _read_hdf5,
        ".npz": _read_npz,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidDataError(
            f"{path.name} is of no known kind.", f"Known endings: {', '.join(readers)}."
        )
    try:
        if not path.is_file():
            raise InvalidDataError(f"There is no file {path}.", "Check the path.")
        return reader(path, list(names), task)
    except ObdError:
        raise
    except Exception as error:  # hostile bytes may raise nearly anything
        first = str(error).strip().partition("\n")[0][:200]
        raise InvalidDataError(
            f"{path.name} cannot be read: {type(error).__name__}: {first}.",
            "The file is truncated or damaged; fetch it again.",
        ) from error


@dataclass
class Claims:
    """What the headers of a file ask for, counted as it will be held.

    Small numbers grow to single precision, and next observations that are not in the file are made
    from the observations.
    """

    path: Path
    held: Container[str]
    task: Task | None = None
    room: int = field(default_factory=lambda: MAX_BYTES)

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        """Refuse what is no table of numbers, takes more than is left, or fits another task."""
        kind = getattr(dtype, "kind", "O")
        if kind not in NUMERIC or not 1 <= len(shape) <= 2:
            raise InvalidDataError(
                f"{self.path.name} holds {name} of type {dtype} and shape {shape}.",
                "It needs plain numbers in one or two dimensions.",
            )
        copies = 2 if name == "observations" and "next_observations" not in self.held else 1
        size = copies * stored_bytes(shape, max(dtype.itemsize, SINGLE))
        if size > self.room:
            raise InvalidDataError(
                f"{self.path.name} claims {size:,} bytes of {name}, more than is allowed.",
                f"All arrays together may take {MAX_BYTES:,} bytes, {SINGLE} a number at least; "
                "observations without next_observations count twice.",
            )
        if self.task is not None:
            self._fits(self.task, name, shape)
        self.room -= size

    def _fits(self, task: Task, name: str, shape: tuple[int, ...]) -> None:
        widths = {
            "observations": task.observation_size,
            "next_observations": task.observation_size,
            "actions": task.action_size,
        }
        if name in widths and shape[1:] != (widths[name],):
            raise InvalidDataError(
                f"{self.path.name} holds {name} of shape {shape}; {task.env_id} needs "
                f"{widths[name]} numbers a row.",
                "Check that the file belongs to this task.",
            )


def stored_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of an array, however large."""
    return int(np.prod([int(n) for n in shape], dtype=object)) * int(itemsize)


def _read_hdf5(path: Path, names: list[str], task: Task | None) -> dict[str, Array]:
    import h5py

    found: dict[str, Array] = {}
    with h5py.File(path, "r", locking=False) as file:
        links = {name: file.get(name, getlink=True) for name in names}
        claims = Claims(path, [name for name in names if links[name] is not None], task)
        for name, link in links.items():
            if link is None:
                continue
            if not isinstance(link, h5py.HardLink):
                raise InvalidDataError(
                    f"{path.name} refers to elsewhere for {name}.", "Store the data in the file."
                )
            stored = file[name]
            if not isinstance(stored, h5py.Dataset):
                raise InvalidDataError(
                    f"{path.name} holds a group where {name} should be.", "Use D4RL's layout."
                )
            claims.take(name, stored.shape, stored.dtype)
            _check_storage(path, name, stored)
            found[name] = stored[()]
    return found


def _check_storage(path: Path, name: str, stored: Any) -> None:
    """Refuse storage outside the file, giant chunks, and filters that would be loaded."""
    plist = stored.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    chunk = stored_bytes(stored.chunks or (0,), stored.dtype.itemsize)
    problem = None
    if stored.is_virtual or stored.external:
        problem = "lies in other files"
    elif chunk > MAX_CHUNK:
        problem = f"has chunks of {chunk:,} bytes"
    elif not filters <= KNOWN_FILTERS:
        problem = f"uses the filters {sorted(filters - KNOWN_FILTERS)}"
    if problem is not None:
        raise InvalidDataError(
            f"{path.name} is refused: {name} {problem}.",
            "Rewrite it with plain or gzip-compressed datasets.",
        )


def _read_npz(path: Path, names: list[str], task: Task | None) -> dict[str, Array]:
    found: dict[str, Array] = {}
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: entry for entry in archive.infolist()}
        claims = Claims(path, [name for name in names if f"{name}.npy" in members], task)
        for name in names:
            entry = members.get(f"{name}.npy")
            if entry is None:
                continue
            if entry.file_size > MAX_BYTES:
                raise InvalidDataError(
                    f"{path.name} unpacks to more than is allowed.",
                    f"All arrays together may take {MAX_BYTES:,} bytes.",
                )
            with archive.open(entry) as member:
                found[name] = _read_npy(claims, name, member, entry.file_size)
    return found


def _read_npy(claims: Claims, name: str, member: IO[bytes], file_size: int) -> Array:
    """One array, whose header must agree with the size of its entry."""
    form = np.lib.format
    major = form.read_magic(member)
    reader = form.read_array_header_1_0 if major == (1, 0) else form.read_array_header_2_0
    shape, fortran, dtype = reader(member)
    start = member.tell()
    claims.take(name, shape, dtype)
    size = stored_bytes(shape, dtype.itemsize)
    if start + size != file_size:
        raise InvalidDataError(
            f"{claims.path.name} claims {size:,} bytes of {name} but holds {file_size - start:,}.",
            "The file is damaged; fetch it again.",
        )
    flat = np.frombuffer(bytearray(member.read(size)), dtype=dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def require_columns(
    path: Path,
    columns: Mapping[str, Array],
    names: Iterable[str],
    same_length: Iterable[str] | None = None,
) -> None:
    """Insist on arrays that must be there, and on one length for all or some of them."""
    for name in names:
        if name not in columns:
            raise InvalidDataError(f"{path.name} holds no {name}.", "Use D4RL's layout.")
    compared = columns if same_length is None else same_length
    lengths = {name: len(columns[name]) for name in compared}
    if len(set(lengths.values())) > 1:
        raise InvalidDataError(
            f"{path.name} holds columns of different lengths: {lengths}.", "Fetch it again."
        )


def flatten_columns(path: Path, columns: Mapping[str, Array]) -> dict[str, Array]:
    """The columns with rewards and marks as vectors, out of shape (N,) or (N, 1), all finite.

    Marks become truth values later, in which a NaN would be lost and a table be a giant.
    """
    found = dict(columns)
    for name in (name for name in PER_ROW if name in found):
        column = found[name]
        if column.ndim == 2 and column.shape[1] == 1:
            column = found[name] = column[:, 0]
        if column.ndim != 1:
            raise InvalidDataError(
                f"{path.name} holds {name} of shape {column.shape}.", "It needs one number a row."
            )
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            bad = int((~np.isfinite(column)).sum())
            raise InvalidDataError(
                f"{path.name} holds {bad} values in {name} that are not finite.",
                "Fetch or rebuild the file.",
            )
    return found
