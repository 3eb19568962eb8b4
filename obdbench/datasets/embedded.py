"""The nine datasets that travel with the package, each with its teacher.

They were collected by the project with D4RL's recipe (``obdbench.collection.recipe``). Beside each
data file lies a card with its origin, its statistics and its SHA-256, which every load verifies;
the teacher beside it was trained offline (``baselines/cal_ql.py``) and is verified likewise.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.packing import unpack
from obdbench.errors import InvalidDataError, unknown_name
from obdbench.registry import D4RL_NAMES
from obdbench.tasks.task import get_task

FILES = Path(__file__).parent / "files"
NAMES = tuple(f"{name}-v0" for name in D4RL_NAMES)
SOURCE = "embedded/"


def load(dataset_id: str, folder: Path = FILES) -> Dataset:
    """An embedded dataset, such as ``embedded/hopper-medium-replay-v0``."""
    name = short_name(dataset_id)
    card = _card(folder / f"{name}.json")
    blob = _verified(folder / f"{name}.npz", card)
    return unpack(blob, f"{SOURCE}{name}", get_task(name), card)


def teacher_path(dataset_id: str, folder: Path = FILES) -> Path:
    """The verified file of an embedded dataset's teacher, read by ``obdbench.teachers``."""
    name = short_name(dataset_id)
    path = folder / f"{name}-teacher.safetensors"
    _verified(path, _card(path.with_suffix(".json")))
    return path


def short_name(dataset_id: str) -> str:
    """``hopper-medium-v0`` of ``embedded/hopper-medium-v0``; nothing but the nine names passes."""
    name = DatasetId(dataset_id).name
    if name not in NAMES:
        raise unknown_name("embedded dataset", dataset_id, [f"{SOURCE}{known}" for known in NAMES])
    return name


def _card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidDataError(f"The card {path.name} cannot be read: {error}.", _REPAIR) from error
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise InvalidDataError(f"The card {path.name} names no SHA-256.", _REPAIR)
    return card


def _verified(path: Path, card: dict[str, Any]) -> bytes:
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise InvalidDataError(f"{path.name} cannot be read: {error}.", _REPAIR) from error
    found = hashlib.sha256(blob).hexdigest()
    if found != card["sha256"]:
        raise InvalidDataError(
            f"{path.name} has SHA-256 {found[:12]}…, its card says {card['sha256'][:12]}….", _REPAIR
        )
    return blob


_REPAIR = "Reinstall obdbench, or rebuild the file with `obdbench data build`."
