"""Teachers from policy files, recognised by their content."""

from __future__ import annotations

from pathlib import Path

from obdbench.teachers.teacher import Teacher


def load_policy_file(path: Path, dataset_id: str) -> Teacher:
    """Read a file as a teacher of a dataset."""
    return Teacher.load(path)
