"""Load the teacher that belongs to a dataset."""

from __future__ import annotations

from obdbench.datasets.embedded import teacher_path
from obdbench.datasets.identifier import DatasetId
from obdbench.errors import ObdError
from obdbench.teachers.published import load_published_teacher
from obdbench.teachers.teacher import Teacher


def load_teacher(dataset_id: str) -> Teacher:
    """The teacher that belongs to a dataset.

    Embedded datasets include their teachers; ``d4rl/`` and ``recon/`` datasets use the published
    Cal-QL policies. Other datasets have no default teacher: :meth:`Teacher.load` reads a file.
    """
    parsed = DatasetId(dataset_id)
    if parsed.source == "embedded":
        return Teacher.load(teacher_path(dataset_id))
    if parsed.source in ("d4rl", "recon"):
        return load_published_teacher(parsed.name)
    raise ObdError(
        f"No teacher is known for {dataset_id!r}.",
        "Use an embedded, recon or d4rl dataset, an objective that needs no teacher, or pass a "
        "Teacher to obdbench.distill in Python.",
    )
