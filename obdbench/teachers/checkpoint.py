"""Read CORL's Cal-QL checkpoints without executing anything in them.

A file is a ``torch.save`` archive of the state dictionaries ``actor``, ``critic1`` and ``critic2``,
optimizer states, and a few instances of a class of the script that wrote it. PyTorch's weights-only
unpickler reads it and builds only tensors and plain containers; an inert class replaces that one
class. The size of the archive is checked before anything is unpacked.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from obdbench.datasets.dataset import Standardizer
from obdbench.errors import InvalidDataError, ObdError
from obdbench.teachers.teacher import Layers, Teacher

MAX_BYTES = 32 * 1024 * 1024
MAX_PICKLE_BYTES = 1024 * 1024
MAX_ENTRIES = 1024
FLOAT32_BYTES = 4


class _InertObject:
    """Replaces the foreign class and ignores its state."""

    def __setstate__(self, state: object) -> None:
        del state


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The content of the archive: nested dictionaries of tensors on the CPU."""
    try:
        _check_archive(path)
        with torch.serialization.safe_globals([(_InertObject, "__main__.Scalar")]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ObdError:
        raise
    except Exception as error:  # malformed bytes can raise almost any exception
        first_line = str(error).strip().partition("\n")[0][:200]
        raise InvalidDataError(
            f"The checkpoint {path.name} cannot be read: {type(error).__name__}: {first_line}.",
            "Download it again from its publisher.",
        ) from error
    if not isinstance(content, Mapping):
        raise InvalidDataError(
            f"The checkpoint {path.name} contains a {type(content).__name__}, not a dictionary.",
            "Use a checkpoint in the format of CORL's Cal-QL.",
        )
    return content


def _check_archive(path: Path) -> None:
    """Accept an archive of few, small, uncompressed entries that is not larger than allowed."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    problem = None
    if path.stat().st_size > MAX_BYTES or sum(e.file_size for e in entries) > MAX_BYTES:
        problem = f"it is larger than {MAX_BYTES:,} bytes"
    elif len(entries) > MAX_ENTRIES:
        problem = f"it has {len(entries)} entries"
    elif any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        problem = "it is compressed, unlike archives written by torch.save"
    elif any(e.filename.endswith("data.pkl") and e.file_size > MAX_PICKLE_BYTES for e in entries):
        problem = f"its pickle is larger than {MAX_PICKLE_BYTES:,} bytes"
    if problem is not None:
        raise InvalidDataError(f"The checkpoint {path.name} is refused: {problem}.", "Check it.")


def teacher_from_checkpoint(
    content: Mapping[str, Any],
    teacher_id: str,
    standardizer: Standardizer,
    card: Mapping[str, Any],
) -> Teacher:
    """Build a :class:`Teacher` from the state dictionaries of a Cal-QL checkpoint."""
    try:
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
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise InvalidDataError(
            f"The checkpoint of {teacher_id!r} is not usable as a teacher: "
            f"{type(error).__name__}: {error}.",
            "Use a checkpoint in the format of CORL's Cal-QL.",
        ) from error


def sequential_layers(state: Mapping[str, Any], prefix: str) -> Layers:
    """The linear layers of a ``torch.nn.Sequential`` in a state dictionary, in order."""
    positions = sorted(
        int(key.split(".")[1]) for key in state if key.startswith(prefix) and key.endswith("weight")
    )
    layers = [
        (state[f"{prefix}.{position}.weight"], state[f"{prefix}.{position}.bias"])
        for position in positions
    ]
    check_tensor_sizes([tensor for layer in layers for tensor in layer])
    return tuple(
        (weight.float().detach().clone(), bias.float().detach().clone()) for weight, bias in layers
    )


def check_tensor_sizes(tensors: list[torch.Tensor]) -> None:
    """Refuse tensors larger than their storage (zero strides) and networks that are too large."""
    for tensor in tensors:
        size, stored = tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes()
        if size > stored:
            raise ValueError(f"a tensor claims {size:,} bytes of the {stored:,} stored")
    total = sum(tensor.numel() * FLOAT32_BYTES for tensor in tensors)
    if total > MAX_BYTES:
        raise ValueError(f"a network takes {total:,} bytes, more than {MAX_BYTES:,}")
