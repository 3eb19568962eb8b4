"""Teachers trained by the user: where they are kept, and how later commands find them.

A teacher is kept as ``<cache>/teachers/<dataset>-<algorithm>.safetensors``, its card in the
metadata. It belongs to the data it was trained on: the card holds the checksum of the dataset.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from obdbench.datasets.download import cache_root
from obdbench.datasets.identifier import DatasetId
from obdbench.io import replace_atomically
from obdbench.teachers.teacher import Teacher


def trained_teacher_path(dataset_id: str, algorithm: str) -> Path:
    """Where the teacher of one dataset and algorithm is kept.

    The name depends on :attr:`DatasetId.canonical`, so that every spelling of an identifier finds
    the teacher. A task that the identifier of a file states is part of it: the task scales the
    actions, and the teacher of a file read for one task must not serve another.
    """
    dataset_id = DatasetId(dataset_id).canonical
    digest = hashlib.sha256(dataset_id.encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", dataset_id.rpartition("/")[2])[:60].strip("-")
    return cache_root() / "teachers" / f"{readable}-{digest}-{algorithm}.safetensors"


def save_trained_teacher(teacher: Teacher, path: Path) -> None:
    """Write a teacher into the cache, replacing an older one."""
    with replace_atomically(path) as temporary:
        teacher.save(temporary)


def find_trained_teachers(dataset_id: str) -> dict[str, Path]:
    """The teachers kept for a dataset, by algorithm."""
    pattern = trained_teacher_path(dataset_id, "*")
    prefix = pattern.name.partition("*")[0]
    return {
        path.name.removeprefix(prefix).removesuffix(".safetensors"): path
        for path in sorted(pattern.parent.glob(pattern.name))
    }


def load_trained_teacher(dataset_id: str, algorithm: str) -> Teacher | None:
    """The teacher that one algorithm trained for a dataset, if it is kept."""
    path = find_trained_teachers(dataset_id).get(algorithm)
    return None if path is None else Teacher.load(path)


def find_newest_algorithm(dataset_id: str) -> str | None:
    """The algorithm of the teacher that was trained last for a dataset."""
    paths = find_trained_teachers(dataset_id)
    return max(paths, key=lambda name: paths[name].stat().st_mtime, default=None)
