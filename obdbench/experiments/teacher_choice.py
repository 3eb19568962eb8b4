"""Teachers that a suite or a command line names for its datasets, and their identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from obdbench.errors import UnknownNameError, unknown_name
from obdbench.teachers.loading import find_default_teacher_name, load_teacher


def parse_teachers(texts: Iterable[str], datasets: Iterable[str]) -> dict[str, str]:
    """Map datasets to teachers, from ``TEACHER`` (of all datasets) and ``DATASET=TEACHER``."""
    known = list(datasets)
    chosen: dict[str, str] = {}
    for text in texts:
        dataset = next((name for name in known if text.startswith(f"{name}=")), None)
        if dataset is not None:
            chosen[dataset] = text.removeprefix(f"{dataset}=")
        elif "=" in text and not Path(text).exists():
            name = text.rpartition("=")[0]
            remedy = unknown_name("dataset", name, known).remedy
            raise UnknownNameError(f"The run contains no dataset {name!r}.", remedy)
        else:
            chosen |= dict.fromkeys(known, text)
    return chosen


def identify_teacher(teachers: Mapping[str, str], dataset_id: str) -> dict[str, str]:
    """The fields ``teacher`` and ``teacher_checksum`` of trials of a dataset.

    They are absent where nothing is named and the dataset has a teacher that cannot change. A
    teacher that ``obdbench teach`` trained is named even where it is the default.
    """
    name = teachers.get(dataset_id) or find_default_teacher_name(dataset_id)
    if name is None:
        return {}
    return {"teacher": name, "teacher_checksum": load_teacher(dataset_id, name).checksum}
