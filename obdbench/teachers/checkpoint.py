"""The published Cal-QL policies, read from their original files without running anything in them.

A file is a ``torch.save`` archive of state dictionaries ``actor``, ``critic1``, ``critic2`` and
optimizer states, beside a few instances of a class of the script that wrote it. It is read with
torch's weights-only unpickler, which builds tensors and plain containers alone; that one class is
replaced by an inert stand-in. Archives are bounded before anything of them is unpacked.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from obdbench.datasets.dataset import Standardizer
from obdbench.datasets.download import fetch
from obdbench.datasets.references import moments_of
from obdbench.errors import InvalidDataError, ObdError, unknown_name
from obdbench.teachers.teacher import Layers, Teacher

MAX_BYTES = 32 * 1024 * 1024
MAX_PICKLE = 1024 * 1024
SINGLE = 4  # bytes of a number in single precision
MAX_ENTRIES = 1024


class _Inert:
    """Takes the place of the foreign class and forgets whatever it is given."""

    def __setstate__(self, state: object) -> None:
        del state


@cache
def published() -> dict[str, Any]:
    """Addresses, checksums and printed scores of the published checkpoints, by dataset name."""
    text = files("obdbench.teachers").joinpath("published.json").read_text(encoding="utf-8")
    return dict(json.loads(text)["checkpoints"])


def load_published(name: str) -> Teacher:
    """The published teacher of a D4RL dataset, such as ``hopper-medium-replay-v2``."""
    content = read(locate(name))
    facts = published()[name]
    card = {"algorithm": "Cal-QL", "source": facts["url"], "sha256": facts["sha256"]}
    return teacher_from(content, name, moments_of(name), card)


def locate(name: str, *, progress: bool = True) -> Path:
    """The original file, fetched if need be, its SHA-256 verified."""
    if name not in published():
        raise unknown_name("published teacher", name, published())
    facts = published()[name]
    return fetch(
        facts["url"],
        sha256=facts["sha256"],
        max_bytes=facts["bytes"],
        name=f"{name}.pt",
        progress=progress,
    )


def read(path: Path) -> Mapping[str, Any]:
    """The archive's content: nested dictionaries of tensors on the CPU."""
    try:
        _check_archive(path)
        with torch.serialization.safe_globals([(_Inert, "__main__.Scalar")]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ObdError:
        raise
    except Exception as error:  # hostile bytes may raise nearly anything
        first = str(error).strip().partition("\n")[0][:200]
        raise InvalidDataError(
            f"The checkpoint {path.name} cannot be read: {type(error).__name__}: {first}.",
            "Fetch it again from where it was published.",
        ) from error
    if not isinstance(content, Mapping):
        raise InvalidDataError(
            f"The checkpoint {path.name} holds a {type(content).__name__}, no dictionary.",
            "Use a checkpoint in the format of CORL's Cal-QL.",
        )
    return content


def _check_archive(path: Path) -> None:
    """Bound the archive: plain entries only, few, small, and no longer than the file."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    problem = None
    if path.stat().st_size > MAX_BYTES or sum(e.file_size for e in entries) > MAX_BYTES:
        problem = f"it is larger than {MAX_BYTES:,} bytes"
    elif len(entries) > MAX_ENTRIES:
        problem = f"it holds {len(entries)} entries"
    elif any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        problem = "it is compressed, which torch never does"
    elif any(e.filename.endswith("data.pkl") and e.file_size > MAX_PICKLE for e in entries):
        problem = "its description of the content is too long"
    if problem is not None:
        raise InvalidDataError(
            f"The checkpoint {path.name} is refused: {problem}.", "Fetch it again."
        )


def teacher_from(
    content: Mapping[str, Any], name: str, standardizer: Standardizer, card: Mapping[str, Any]
) -> Teacher:
    """Map a checkpoint's state dictionaries to a :class:`Teacher`."""
    try:
        actor = content["actor"]
        return Teacher(
            id=f"published/{name}",
            actor=_layers(actor, "base_network", name),
            critics=tuple(
                _layers(content[critic], "network", name) for critic in ("critic1", "critic2")
            ),
            standardizer=standardizer,
            log_std_multiplier=float(actor["log_std_multiplier.constant"]),
            log_std_offset=float(actor["log_std_offset.constant"]),
            card=card,
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise InvalidDataError(
            f"The checkpoint of {name} lacks what a teacher needs: {type(error).__name__} {error}.",
            "Use a checkpoint in the format of CORL's Cal-QL.",
        ) from error


def _layers(state: Mapping[str, Any], prefix: str, name: str) -> Layers:
    """The linear layers of a ``Sequential``, in order of their positions."""
    positions = sorted(
        int(key.split(".")[1]) for key in state if key.startswith(prefix) and key.endswith("weight")
    )
    layers = [(state[f"{prefix}.{at}.weight"], state[f"{prefix}.{at}.bias"]) for at in positions]
    _check_sizes(name, [tensor for layer in layers for tensor in layer])
    return tuple(
        (weight.float().detach().clone(), bias.float().detach().clone()) for weight, bias in layers
    )


def _check_sizes(name: str, tensors: list[torch.Tensor]) -> None:
    """Refuse tensors that hold more numbers than were stored: strides may repeat and share them."""
    problem = None
    for tensor in tensors:
        size, stored = tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes()
        if size > stored:
            problem = f"a tensor claims {size:,} bytes of the {stored:,} stored"
    total = sum(tensor.numel() * SINGLE for tensor in tensors)
    if problem is None and total > MAX_BYTES:
        problem = f"a network of its takes {total:,} bytes, more than {MAX_BYTES:,}"
    if problem is not None:
        raise InvalidDataError(
            f"The checkpoint of {name} is refused: {problem}.", "Fetch it again."
        )
