"""Files with the state of an unfinished training or distillation.

PyTorch's weights-only reader builds only tensors and plain containers.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from obdbench.errors import InvalidDataError, unreadable
from obdbench.io import replace_atomically


def save_state(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write the state of the training that ``identity`` describes, atomically."""
    with replace_atomically(path) as temporary:
        torch.save({"identity": dict(identity), "state": dict(state)}, temporary)


@contextmanager
def saved_state(path: Path, identity: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """The saved state of the same training, or ``None`` if there is no file.

    A file that cannot be read, or whose values the body of the ``with`` statement cannot restore,
    is an error, and so is the state of a training with other data or settings.
    """
    if not path.exists():
        yield None
        return
    remedy = "Remove the file to start again."
    with unreadable(f"The saved training {path} cannot be used", remedy):
        with zipfile.ZipFile(path) as archive:  # a compressed entry may be of any size
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed, unlike files written by torch.save")
        with path.open("rb") as file:  # of a path, PyTorch would take the format from its suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
        saved = content["identity"]
        differing = [name for name in identity if saved.get(name) != identity[name]]
        if differing or len(saved) != len(identity):
            raise InvalidDataError(
                f"The saved training {path} differs in {differing[0] if differing else 'content'}.",
                "Remove the file to train from the start, or use the same data and settings.",
            )
        yield content["state"]
