"""The datasets that are shipped with the package, with their teachers.

The project collected them with D4RL's recipe (``obdbench.collection.recipe``). A card beside each
data file holds its origin, its statistics and its SHA-256, which every load verifies; the teacher
beside it was trained offline (``baselines/offline_rl.py``) and is verified in the same way.
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
NAMES = tuple(f"{name}-v1" for name in D4RL_NAMES)
REMEDY = "Reinstall obdbench, or rebuild the file with `obdbench data build`."


def load(dataset_id: str, folder: Path = FILES) -> Dataset:
    """An embedded dataset, such as ``embedded/hopper-medium-replay-v1``."""
    name = known_name(dataset_id)
    card = _read_card(folder / f"{name}.json")
    content = _read_verified(folder / f"{name}.npz", card)
    return unpack(content, f"embedded/{name}", get_task(name), card)


def teacher_path(dataset_id: str, folder: Path = FILES) -> Path:
    """The verified file of an embedded dataset's teacher, read by ``obdbench.teachers``."""
    path = folder / f"{known_name(dataset_id)}-teacher.safetensors"
    _read_verified(path, _read_card(path.with_suffix(".json")))
    return path


def known_name(dataset_id: str) -> str:
    """``hopper-medium-v1`` of ``embedded/hopper-medium-v1``; any other name is an error."""
    name = DatasetId(dataset_id).name
    if name not in NAMES:
        raise unknown_name("embedded dataset", dataset_id, [f"embedded/{known}" for known in NAMES])
    return name


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidDataError(f"The card {path.name} cannot be read: {error}.", REMEDY) from error
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise InvalidDataError(f"The card {path.name} contains no SHA-256.", REMEDY)
    return card


def _read_verified(path: Path, card: dict[str, Any]) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidDataError(f"{path.name} cannot be read: {error}.", REMEDY) from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != card["sha256"]:
        raise InvalidDataError(
            f"{path.name} has SHA-256 {actual[:12]}…; its card states {card['sha256'][:12]}….",
            REMEDY,
        )
    return content
