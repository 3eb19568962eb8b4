"""Files with the state of an unfinished training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from obdbench.datasets.dataset import Dataset
from obdbench.errors import InvalidDataError, ObdError
from obdbench.io import replace_atomically


def state_name(datasets: Sequence[Dataset]) -> str:
    """Part of a file name for these datasets, so that concurrent trainings use different files."""
    content = " ".join(dataset.checksum for dataset in datasets)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


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
    try:
        content = torch.load(path, weights_only=True)
        if content["identity"] != dict(identity):
            raise InvalidDataError(
                f"The saved training {path} has other data or settings.",
                "Remove the file to train from the start, or use the same settings.",
            )
        yield content["state"]
    except ObdError:
        raise
    except Exception as error:  # malformed bytes can raise almost any exception
        raise InvalidDataError(
            f"The saved training {path} cannot be read: {type(error).__name__}.",
            "Remove the file to train from the start.",
        ) from error
