"""Read ``torch.save`` archives without executing anything in them, and make teachers of them.

PyTorch's weights-only unpickler builds only tensors and plain containers. The size of an archive is
checked before anything is unpacked. A Cal-QL file contains the state dictionaries ``actor``,
``critic1`` and ``critic2``, optimizer states, and a few instances of a class of the script that
wrote it, which an inert class replaces.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from obdbench.datasets.dataset import Standardizer
from obdbench.errors import InvalidDataError, ObdError, first_line
from obdbench.teachers.teacher import Layers, Teacher, raw_observations

MAX_BYTES = 32 * 1024 * 1024
MAX_PICKLE_BYTES = 1024 * 1024
MAX_ENTRIES = 1024
FLOAT32_BYTES = 4


class _InertObject:
    """Replaces the foreign class and ignores its state."""

    def __setstate__(self, state: object) -> None:
        del state


def read_checkpoint(path: Path, content: bytes | None = None) -> Mapping[str, Any]:
    """The content of an archive: nested dictionaries of tensors on the CPU.

    ``content`` is the archive if it is an entry of the file; otherwise the file is the archive.
    """
    with unreadable_file_errors(path):
        if content is None:
            check_size(path)
            content = path.read_bytes()
        _check_archive(path.name, content)
        with torch.serialization.safe_globals([(_InertObject, "__main__.Scalar")]):
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise InvalidDataError(
            f"The checkpoint {path.name} contains a {type(loaded).__name__}, not a dictionary.",
            "Use a checkpoint of state dictionaries.",
        )
    return loaded


@contextmanager
def unreadable_file_errors(path: Path) -> Iterator[None]:
    """Turn any error into one line, because malformed bytes can raise almost any exception."""
    try:
        yield
    except ObdError:
        raise
    except Exception as error:
        name = type(error).__name__
        reason = f"{name}: {first_line(error)}"
        if name == "UnpicklingError":  # PyTorch's text advises to execute the pickle
            reason = "its pickle is damaged, or contains more than tensors and plain containers"
        raise InvalidDataError(
            f"The checkpoint {path.name} cannot be read: {reason}.", "Download or save it again."
        ) from error


@contextmanager
def unusable_teacher_errors(source: Path | str, form: str) -> Iterator[None]:
    """Turn errors about missing or wrong content into one line that names the expected form."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise InvalidDataError(
            f"The policy {Path(source).name} is not usable as a teacher: {type(error).__name__}: "
            f"{error}.",
            f"Use {form}.",
        ) from error


def check_size(path: Path) -> None:
    """Raise an error if a file is larger than allowed."""
    if path.stat().st_size > MAX_BYTES:
        raise InvalidDataError(
            f"The checkpoint {path.name} is refused: it is larger than {MAX_BYTES:,} bytes.",
            f"Use a checkpoint of at most {MAX_BYTES // 2**20} MiB.",
        )


def _check_archive(name: str, content: bytes) -> None:
    """Accept an archive of few, small, uncompressed entries that is not larger than allowed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    problem = None
    if len(content) > MAX_BYTES or sum(e.file_size for e in entries) > MAX_BYTES:
        problem = f"it is larger than {MAX_BYTES:,} bytes"
    elif len(entries) > MAX_ENTRIES:
        problem = f"it has {len(entries)} entries"
    elif any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        problem = "it is compressed, unlike archives written by torch.save"
    elif any(e.filename.endswith("data.pkl") and e.file_size > MAX_PICKLE_BYTES for e in entries):
        problem = f"its pickle is larger than {MAX_PICKLE_BYTES:,} bytes"
    if problem is not None:
        raise InvalidDataError(
            f"The checkpoint {name} is refused: {problem}.",
            f"Use a checkpoint of at most {MAX_BYTES // 2**20} MiB that torch.save wrote.",
        )


def teacher_from_checkpoint(
    content: Mapping[str, Any],
    teacher_id: str,
    standardizer: Standardizer,
    card: Mapping[str, Any],
) -> Teacher:
    """Build a :class:`Teacher` from the state dictionaries of a Cal-QL checkpoint."""
    with unusable_teacher_errors(teacher_id, "a checkpoint in the format of CORL's Cal-QL"):
        actor = content["actor"]
        return Teacher(
            id=teacher_id,
            actor=sequential_layers(actor, "base_network"),
            critics=tuple(
                sequential_layers(content[critic], "network") for critic in ("critic1", "critic2")
            ),
            standardizer=standardizer,
            log_std_multiplier=float(actor["log_std_multiplier.constant"]),
            log_std_offset=float(actor["log_std_offset.constant"]),
            card=card,
        )


def imported_teacher(
    path: Path,
    library: str,
    algorithm: str,
    actor: Layers,
    critics: tuple[Layers, ...] = (),
    standardizer: Standardizer | None = None,
) -> Teacher:
    """A teacher from the file of a library; it acts on raw observations without a standardizer."""
    return Teacher(
        id=f"{library.lower()}:{path.name}",
        actor=actor,
        critics=critics,
        standardizer=standardizer or raw_observations(int(actor[0][0].shape[1])),
        log_std_offset=0.0,
        card={"algorithm": algorithm, "source": f"{library}, {path.name}"},
    )


def sequential_layers(state: Mapping[str, Any], prefix: str) -> Layers:
    """The linear layers of a ``torch.nn.Sequential`` in a state dictionary, in order."""
    start, end = f"{prefix}.", ".weight"
    positions = [key[len(start) : -len(end)] for key in state if key.startswith(start)]
    numbers = sorted({int(text) for text in positions if text.isdecimal()})
    layers = named_layers(state, [f"{prefix}.{number}" for number in numbers])
    if not layers:
        raise KeyError(f"{prefix}.0.weight")
    return layers


def named_layers(state: Mapping[str, Any], names: Iterable[str]) -> Layers:
    """The linear layers of these names in a state dictionary."""
    layers = [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in names]
    check_tensor_sizes([tensor for layer in layers for tensor in layer])
    return tuple(
        (weight.float().detach().clone(), bias.float().detach().clone()) for weight, bias in layers
    )


def join_heads(mean: Layers, log_std: Layers) -> tuple[Tensor, Tensor]:
    """One output layer from a layer of means and a layer of log standard deviations."""
    ((mean_weight, mean_bias),), ((std_weight, std_bias),) = mean, log_std
    return torch.cat([mean_weight, std_weight]), torch.cat([mean_bias, std_bias])


def check_tensor_sizes(tensors: list[torch.Tensor]) -> None:
    """Raise an error for tensors larger than their storage and for networks that are too large."""
    for tensor in tensors:
        size, stored = tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes()
        if size > stored:
            raise ValueError(f"a tensor claims {size:,} bytes of the {stored:,} stored")
    total = sum(tensor.numel() * FLOAT32_BYTES for tensor in tensors)
    if total > MAX_BYTES:
        raise ValueError(f"a network takes {total:,} bytes, more than {MAX_BYTES:,}")
