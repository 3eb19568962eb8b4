"""The Cal-QL policies published with Offline Behavior Distillation, by D4RL dataset name."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from obdbench.datasets.download import fetch
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.references import get_reference
from obdbench.errors import unknown_name
from obdbench.teachers.checkpoint import read_checkpoint, teacher_from_checkpoint
from obdbench.teachers.teacher import Teacher


@cache
def published_teachers() -> dict[str, Any]:
    """Addresses, checksums and published scores of the checkpoints, by dataset name."""
    text = files("obdbench.teachers").joinpath("published.json").read_text(encoding="utf-8")
    return dict(json.loads(text)["checkpoints"])


def load_published_teacher(dataset_id: str) -> Teacher:
    """The published teacher of a D4RL dataset, such as ``d4rl/hopper-medium-replay-v2``."""
    name = DatasetId(dataset_id).name
    content = read_checkpoint(download_checkpoint(name))
    facts = published_teachers()[name]
    card = {"algorithm": "Cal-QL", "source": facts["url"], "sha256": facts["sha256"]}
    moments = get_reference(name).moments
    return teacher_from_checkpoint(content, f"published/{name}", moments, card)


def download_checkpoint(name: str, *, progress: bool = True) -> Path:
    """The original file, downloaded if it is not cached, with its SHA-256 verified."""
    if name not in published_teachers():
        raise unknown_name("published teacher", name, published_teachers())
    facts = published_teachers()[name]
    return fetch(
        facts["url"],
        sha256=facts["sha256"],
        max_bytes=facts["bytes"],
        progress=progress,
    )
