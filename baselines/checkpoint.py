"""Save and restore the state of interrupted training."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from obdbench.errors import InvalidDataError
from obdbench.io import replace_atomically


def save(state: dict[str, Any], path: Path) -> None:
    """Write a state atomically."""
    with replace_atomically(path) as temporary:
        torch.save(state, temporary)


def load(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The saved state of the same run, or None; read with the weights-only unpickler."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        saved_identity = state["identity"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise InvalidDataError(f"{path} cannot be read: {error}.", "Remove it.") from error
    if saved_identity != identity:
        raise InvalidDataError(
            f"{path} belongs to a run with other data or settings.", "Remove it, or restore them."
        )
    return state
