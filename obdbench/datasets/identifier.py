"""Dataset identifiers, parsed in one place.

========================================  ====================================================
``embedded/hopper-medium-v1``             shipped with the package
``d4rl/hopper-medium-v2``                 genuine D4RL file
``minari/mujoco/hopper/medium-v0``        Minari dataset
``file:PATH.npz``, ``file:PATH#hopper``   the user's file, with the task if the file lacks it
``file:PATH.hdf5#task=hopper``            the same, with the name of the value
``<source>/<name>``                       dataset of a plugin
========================================  ====================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from obdbench import registry
from obdbench.errors import InvalidSettingError
from obdbench.io import expand_path
from obdbench.tasks.task import find_leading_task_name, match_task_name

OPEN_SOURCES = ("d4rl", "minari", "file")
FILE_SUFFIXES = (".hdf5", ".h5", ".npz")


def resolve_registered_name(dataset_id: str) -> str:
    """The name of a registered dataset; an error that explains ``file:`` for the path of a file."""
    if dataset_id not in registry.datasets and Path(dataset_id).suffix in FILE_SUFFIXES:
        raise InvalidSettingError(
            f"{dataset_id!r} is the path of a file.", f"Write file:{dataset_id}."
        )
    return registry.datasets.resolve_name(dataset_id)


@dataclass(frozen=True)
class DatasetId:
    """An identifier and its parts. Any text is accepted; ``load_dataset`` checks the name."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def source(self) -> str:
        """Where the dataset comes from; a name without ``/`` is its own source."""
        return "file" if self.text.startswith("file:") else self.text.partition("/")[0]

    @property
    def name(self) -> str:
        """What the source calls the dataset; the path of a file."""
        if self.source == "file":
            return self.text.removeprefix("file:").partition("#")[0]
        return self.text.partition("/")[2] or self.text

    @property
    def path(self) -> Path:
        """The path of a file, with ``~`` expanded."""
        return expand_path(self.name)

    @property
    def canonical(self) -> str:
        """One text for every spelling: a file's has an absolute path, and its task after ``#``.

        The file is not opened. An identifier that states the task and one that leaves it to the
        file therefore differ, as do identifiers that state different tasks, which may scale the
        actions of the same file differently.
        """
        if self.source != "file":
            return self.text
        return f"file:{self.path.resolve()}" + (f"#{self.fragment}" if self.fragment else "")

    @property
    def fragment(self) -> str:
        """The task that a file's identifier states after ``#``."""
        if self.source != "file":
            return ""
        return self.text.partition("#")[2].removeprefix("task=")

    @property
    def short_name(self) -> str:
        """The name without source and version, such as ``hopper-medium``; of a file, its stem."""
        if self.source == "file":
            return PurePath(self.name).stem
        return re.sub(r"-v\d+$", "", self.name)

    @property
    def task_name(self) -> str | None:
        """The task in the name: after ``#``, or the start of the last part that names one."""
        if self.fragment:
            return self.fragment if self.fragment in registry.tasks else None
        if self.source == "file":
            return match_task_name(PurePath(self.name).name)
        parts = self.name.split("/")
        if self.source == "minari":
            parts = parts[1:2] if len(parts) == 3 else []
        names = (find_leading_task_name(part) for part in reversed(parts))
        return next((name for name in names if name is not None), None)

    @property
    def level(self) -> str:
        """What follows the task in the short name, such as ``medium-replay``."""
        return self.short_name.removeprefix(f"{self.task_name}-")

    @property
    def is_open(self) -> bool:
        """Whether the source resolves names that are not registered."""
        return self.source in OPEN_SOURCES
