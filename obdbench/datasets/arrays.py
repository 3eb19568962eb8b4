"""Arrays from untrusted HDF5 and NPZ files.

Nothing is unpickled and no link to another file is followed. The size that a header claims is
checked before any memory is allocated: all arrays together may take :data:`MAX_BYTES` in single
precision, however small the file is.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from obdbench.datasets.dataset import Array
from obdbench.errors import InvalidDataError, unreadable
from obdbench.tasks.task import Task

MAX_BYTES = 1536 * 1024 * 1024
MAX_CHUNK_BYTES = 128 * 1024 * 1024
NUMERIC_KINDS = "fiub"
FLOAT32_BYTES = 4
MAX_TASK_BYTES, MAX_TASK_CHARACTERS = 4096, 100
SCALAR_COLUMNS = ("rewards", "terminals", "timeouts")
KNOWN_FILTERS = {1, 2, 3, 32000}  # gzip, shuffle, fletcher32, lzf


def read_arrays(path: Path, names: Iterable[str], task: Task | None = None) -> dict[str, Array]:
    """Those of the named arrays that an ``.hdf5``, ``.h5`` or ``.npz`` file contains.

    If the ``task`` is given, arrays of another width are refused before they are read.
    """
    readers: dict[str, Callable[[Path, list[str], Task | None], dict[str, Array]]] = {
        ".hdf5": read_hdf5,
        ".h5": read_hdf5,
        ".npz": _read_npz,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidDataError(
            f"{path.name} has no supported file extension.", f"Supported: {', '.join(readers)}."
        )
    remedy = "The file is truncated or damaged; fetch it again."
    with unreadable(f"{path.name} cannot be read", remedy):
        if not path.is_file():
            raise InvalidDataError(f"There is no file {path}.", "Check the path.")
        return reader(path, list(names), task)


def read_task_name(path: Path) -> str | None:
    """The task that the attribute ``task`` of an HDF5 file or the text ``task`` of an NPZ names."""
    name: Any = None
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                if "task.npy" in archive.namelist():
                    with archive.open("task.npy") as stream:
                        content = io.BytesIO(stream.read(MAX_TASK_BYTES))
                    name = str(np.load(content, allow_pickle=False))
        elif path.suffix.lower() in (".hdf5", ".h5"):
            with h5py.File(path, "r", locking=False) as file:
                name = file.attrs.get("task")
    except Exception:  # the reader of the arrays reports damaged files
        return None
    name = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return name[:MAX_TASK_CHARACTERS] if isinstance(name, str) else None


@dataclass
class SizeBudget:
    """The memory that the arrays of one file may take, reduced by each claimed array.

    Numbers count with at least four bytes, because they become single precision. Observations count
    twice in a file without next observations, which are derived from them.
    """

    path: Path
    names: Collection[str]
    task: Task | None = None
    remaining: int = field(default_factory=lambda: MAX_BYTES)

    def claim(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        """Raise an error for an array that is not numeric, too large, or of another width."""
        if getattr(dtype, "kind", "O") not in NUMERIC_KINDS or not 1 <= len(shape) <= 2:
            raise InvalidDataError(
                f"{self.path.name} contains {name} of type {dtype} and shape {shape}.",
                "It needs plain numbers in one or two dimensions.",
            )
        copies = 2 if name == "observations" and "next_observations" not in self.names else 1
        size = copies * count_bytes(shape, max(dtype.itemsize, FLOAT32_BYTES))
        if size > self.remaining:
            raise InvalidDataError(
                f"{self.path.name} claims {size:,} bytes of {name}, more than is allowed.",
                f"All arrays together may take {MAX_BYTES:,} bytes, with at least {FLOAT32_BYTES} "
                "per number; observations without next_observations count twice.",
            )
        if self.task is not None:
            self._check_width(self.task, name, shape)
        self.remaining -= size

    def _check_width(self, task: Task, name: str, shape: tuple[int, ...]) -> None:
        widths = {
            "observations": task.observation_size,
            "next_observations": task.observation_size,
            "actions": task.action_size,
        }
        if name in widths and shape[1:] != (widths[name],):
            raise InvalidDataError(
                f"{self.path.name} contains {name} of shape {shape}; {task.env_id} needs "
                f"{widths[name]} numbers per row.",
                "Check that the file belongs to this task.",
            )


def count_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of an array, without overflow."""
    return int(np.prod([int(n) for n in shape], dtype=object)) * int(itemsize)


def read_hdf5(path: Path, names: list[str], task: Task | None = None) -> dict[str, Array]:
    """Those of the named arrays that an HDF5 file of any name contains."""
    arrays: dict[str, Array] = {}
    with h5py.File(path, "r", locking=False) as file:
        links = {name: file.get(name, getlink=True) for name in names}
        links = {name: link for name, link in links.items() if link is not None}
        budget = SizeBudget(path, links, task)
        for name, link in links.items():
            if not isinstance(link, h5py.HardLink):
                raise InvalidDataError(
                    f"{path.name} contains a link instead of {name}.", "Store the data in the file."
                )
            stored = file[name]
            if not isinstance(stored, h5py.Dataset):
                raise InvalidDataError(
                    f"{path.name} contains a group instead of {name}.", "Use D4RL's layout."
                )
            budget.claim(name, stored.shape, stored.dtype)
            check_storage(path, name, stored)
            arrays[name] = stored[()]
    return arrays


def check_storage(path: Path, name: str, stored: Any) -> None:
    """Raise an error for storage outside the file, giant chunks and filters of plugins."""
    properties = stored.id.get_create_plist()
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    chunk_bytes = count_bytes(stored.chunks or (0,), stored.dtype.itemsize)
    problem = None
    if stored.is_virtual or stored.external:
        problem = "is stored in other files"
    elif chunk_bytes > MAX_CHUNK_BYTES:
        problem = f"has chunks of {chunk_bytes:,} bytes"
    elif not filters <= KNOWN_FILTERS:
        problem = f"uses the filters {sorted(filters - KNOWN_FILTERS)}"
    if problem is not None:
        raise InvalidDataError(
            f"{path.name} is refused: {name} {problem}.",
            "Rewrite it with plain or gzip-compressed datasets.",
        )


def _read_npz(path: Path, names: list[str], task: Task | None) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        names = [name for name in names if f"{name}.npy" in entries]
        budget = SizeBudget(path, names, task)
        for name in names:
            entry = entries[f"{name}.npy"]
            if entry.file_size > MAX_BYTES:
                raise InvalidDataError(
                    f"{path.name} unpacks to more than is allowed.",
                    f"All arrays together may take {MAX_BYTES:,} bytes.",
                )
            with archive.open(entry) as stream:
                arrays[name] = _read_npy(budget, name, stream, entry.file_size)
    return arrays


def _read_npy(budget: SizeBudget, name: str, stream: IO[bytes], file_size: int) -> Array:
    """One array, whose header must agree with the size of its entry."""
    npy = np.lib.format
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    start = stream.tell()
    budget.claim(name, shape, dtype)
    size = count_bytes(shape, dtype.itemsize)
    if start + size != file_size:
        raise InvalidDataError(
            f"{budget.path.name} claims {size:,} bytes of {name} but has {file_size - start:,}.",
            "The file is damaged; fetch it again.",
        )
    flat = np.frombuffer(bytearray(stream.read(size)), dtype=dtype)
    return flat.reshape(shape[::-1]).T if fortran_order else flat.reshape(shape)


def require_columns(path: Path, columns: Mapping[str, Array], names: Iterable[str]) -> None:
    """Require the named arrays to exist, and all arrays to have one length."""
    for name in names:
        if name not in columns:
            raise InvalidDataError(f"{path.name} contains no {name}.", "Use D4RL's layout.")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidDataError(
            f"{path.name} contains columns of different lengths: {lengths}.",
            "Fetch or write it again.",
        )


def flatten_columns(path: Path, columns: Mapping[str, Array]) -> dict[str, Array]:
    """Rewards, terminals and time-outs as finite vectors, from shape (N,) or (N, 1).

    The check comes before the conversion to truth values, which would hide a NaN.
    """
    flat = dict(columns)
    for name in (name for name in SCALAR_COLUMNS if name in flat):
        column = flat[name]
        if column.ndim == 2 and column.shape[1] == 1:
            column = flat[name] = column[:, 0]
        if column.ndim != 1:
            raise InvalidDataError(
                f"{path.name} contains {name} of shape {column.shape}.",
                "It needs one number per row.",
            )
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            count = int((~np.isfinite(column)).sum())
            raise InvalidDataError(
                f"{path.name} contains {count} values in {name} that are not finite.",
                "Fetch or rebuild the file.",
            )
    return flat
