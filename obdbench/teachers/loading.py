"""Load teachers by dataset, by registered name or from a file.

A registered teacher is a function ``load(dataset_id) -> Teacher``. The names of the built-in ones:
``embedded`` and ``published`` are the teachers of the embedded and of the D4RL datasets, and the
algorithms of ``obdbench teach`` are the teachers that the user trained for a dataset. A trained
teacher is kept as ``<cache>/teachers/<dataset>-<algorithm>.safetensors``. It belongs to the data it
was trained on: its card holds the checksum of the dataset.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import partial
from pathlib import Path

from obdbench.datasets.download import cache_root
from obdbench.datasets.embedded import teacher_path
from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError, InvalidSettingError, ObdError
from obdbench.io import expand_path
from obdbench.registry import teachers
from obdbench.teachers.policy_file import load_policy_file
from obdbench.teachers.published import published_teachers
from obdbench.teachers.teacher import Teacher

FIXED = ("embedded", "published")  # names of the teachers that cannot change


def load_teacher(dataset_id: str, teacher: str | None = None) -> Teacher:
    """Load a teacher for a dataset.

    ``teacher`` is a registered name (``obdbench list teachers``) or the path of a policy file: one
    written by :meth:`Teacher.save`, a Stable-Baselines3 zip, a d3rlpy model, a CORL checkpoint or a
    D4RL HDF5 file. The default of an embedded dataset is the teacher shipped with it, that of
    a ``d4rl/`` dataset the published Cal-QL policy if there is one, and that of any other dataset
    the teacher that ``obdbench teach`` trained last.
    """
    teacher = teacher or _default_name(dataset_id)
    if teacher is None:
        raise ObdError(
            f"No teacher is known for {dataset_id!r}.",
            f"Train one with `obdbench teach {dataset_id}`, or use an objective that needs no "
            "teacher.",
        )
    if teacher not in teachers and is_path(teacher):
        return load_policy_file(expand_path(teacher), dataset_id)
    loader = teachers.get(teacher)
    if not callable(loader):
        raise InvalidSettingError(
            f"The teacher {teacher!r} is registered as a {type(loader).__name__}.",
            "Register a function that takes a dataset identifier and returns a Teacher.",
        )
    loaded = loader(dataset_id)
    if not isinstance(loaded, Teacher):
        raise InvalidDataError(
            f"The loader of the teacher {teacher!r} returns a {type(loaded).__name__}.",
            "Return an obdbench.Teacher.",
        )
    return loaded


def is_path(teacher: str) -> bool:
    """Whether the text is the path of a policy file rather than a name."""
    return bool(os.sep in teacher or Path(teacher).suffix) or Path(teacher).is_file()


def load_embedded_teacher(dataset_id: str) -> Teacher:
    """The teacher shipped with an embedded dataset."""
    return Teacher.load(teacher_path(dataset_id))


def load_teacher_of_algorithm(algorithm: str, dataset_id: str) -> Teacher:
    """The teacher that ``obdbench teach`` trained with one algorithm."""
    teacher = load_trained_teacher(dataset_id, algorithm)
    if teacher is None:
        raise ObdError(
            f"No {algorithm} teacher of {dataset_id!r} has been trained.",
            f"Train it with: obdbench teach {dataset_id} --algorithm {algorithm}"
            + (" --policy FILE" if algorithm == "fitted-q" else ""),
        )
    return teacher


load_td3_bc_teacher = partial(load_teacher_of_algorithm, "td3-bc")
load_iql_teacher = partial(load_teacher_of_algorithm, "iql")
load_cal_ql_teacher = partial(load_teacher_of_algorithm, "cal-ql")
load_fitted_q_teacher = partial(load_teacher_of_algorithm, "fitted-q")


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


def find_default_teacher_name(dataset_id: str) -> str | None:
    """The algorithm of the trained teacher that is the default of a dataset.

    ``None`` if the dataset is shipped or published with a teacher, or if no teacher is trained.
    """
    name = _default_name(dataset_id)
    return None if name in FIXED else name


def has_default_teacher(dataset_id: str) -> bool:
    """Whether a dataset is shipped or published with a teacher."""
    return _default_name(dataset_id) in FIXED


def _default_name(dataset_id: str) -> str | None:
    """The registered name of the default teacher of a dataset, if it has one."""
    parsed = DatasetId(dataset_id)
    if parsed.source == "embedded":
        return "embedded"
    if parsed.source == "d4rl" and parsed.name in published_teachers():
        return "published"
    return find_newest_algorithm(dataset_id)
