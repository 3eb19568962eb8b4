"""Interrupted training goes on where it was: one file of tensors, replaced atomically."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from obdbench.errors import InvalidDataError
from obdbench.io import replace_atomically


def save(state: dict[str, Any], path: Path) -> None:
    """Write a state, so that a reader sees the old one or the new one."""
    with replace_atomically(path) as temporary:
        torch.save(state, temporary)


def load(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The saved state of the same run, None where there is none; never unpickles code."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        found = state["identity"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise InvalidDataError(f"{path} cannot be read: {error}.", "Remove it.") from error
    if found != identity:
        raise InvalidDataError(
            f"{path} belongs to a run with other data or settings.", "Remove it, or restore them."
        )
    return state
