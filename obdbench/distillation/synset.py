"""The synset: a few hundred distilled (state, action) pairs.

A synset is stored as a safetensors file with a JSON card beside it. States are standardized by the
mean and standard deviation of the dataset they were distilled from, which the file also holds, so
raw observations can be computed from the file alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from obdbench.datasets.dataset import Array, Standardizer
from obdbench.distillation.export import export_pairs, resolve_format
from obdbench.errors import InvalidDataError, InvalidSettingError, unreadable
from obdbench.io import write_file
from obdbench.tasks.task import Task, get_task

FORMAT = "obdbench-synset-1"
MAX_BYTES = 256 * 1024 * 1024
MAX_CARD_BYTES = 1024 * 1024


@dataclass(frozen=True, eq=False)
class Synset:
    """Distilled pairs with the moments that standardize their states.

    ``card`` records the data, objective, settings and seed of the distillation.
    """

    states: Array
    actions: Array
    standardizer: Standardizer
    task: Task
    card: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Synset {self.task.name}, {len(self)} pairs, {self.card.get('objective')}>"

    def __post_init__(self) -> None:
        n, task = len(self.states), self.task
        mean, std = self.standardizer.mean, self.standardizer.std
        diverged = "Its distillation diverged: lower the outer learning rate."
        for name, array, shape, remedy in (
            ("states", self.states, (n, task.observation_size), diverged),
            ("actions", self.actions, (n, task.action_size), diverged),
            ("state means", mean, (task.observation_size,), "Distill it again."),
            ("state standard deviations", std, (task.observation_size,), "Distill it again."),
        ):
            if array.shape != shape or n == 0:
                raise InvalidDataError(
                    f"A synset for {task.name} has {name} of shape {array.shape}, not {shape}.",
                    "Check that it belongs to this task.",
                )
            if not np.isfinite(array).all():
                raise InvalidDataError(
                    f"A synset for {task.name} has {name} that are not finite numbers.", remedy
                )
        if (std < 0).any():
            raise InvalidDataError(
                f"A synset for {task.name} has negative standard deviations of states.",
                "Distill it again.",
            )

    def __len__(self) -> int:
        return len(self.states)

    @property
    def observations(self) -> Array:
        """The distilled states in the units of the environment."""
        return self.standardizer.invert(self.states)

    def save(self, path: Path | str) -> Path:
        """Write ``path`` and the JSON card beside it, each atomically, and return the path.

        ``.safetensors`` is appended to a path that does not end in it.
        """
        path = Path(path)
        if path.suffix in (".npz", ".hdf5", ".h5", ".py"):
            raise InvalidSettingError(
                f"{path.name} has the ending of another format.", "Use Synset.export for it."
            )
        if path.suffix != ".safetensors":
            path = path.with_name(f"{path.name}.safetensors")
        arrays = {
            "states": np.ascontiguousarray(self.states, np.float32),
            "actions": np.ascontiguousarray(self.actions, np.float32),
            "state_mean": np.ascontiguousarray(self.standardizer.mean, np.float32),
            "state_std": np.ascontiguousarray(self.standardizer.std, np.float32),
        }
        card = {"format": FORMAT, "task": self.task.name, **dict(self.card)}
        metadata = {"format": f"{FORMAT} {self.task.name}"}  # the order of several keys would vary
        write_file(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
        write_file(path, save(arrays, metadata=metadata))
        return path

    @classmethod
    def load(cls, path: Path | str) -> Synset:
        """Read a synset written by :meth:`save`; its card is optional."""
        path = Path(path)
        if not path.is_file():
            raise InvalidDataError(f"There is no file {path}.", "Check the path.")
        with unreadable(f"The synset {path} cannot be read", "Distill it again."):
            if path.stat().st_size > MAX_BYTES:
                raise InvalidDataError(f"{path} is too large to be a synset.", "Check the path.")
            with safe_open(path, framework="numpy") as file:
                kind, _, task = (file.metadata() or {}).get("format", "").partition(" ")
                if kind != FORMAT:
                    raise InvalidDataError(
                        f"{path} is not a synset.", "Give the .safetensors file."
                    )
                arrays = {
                    name: file.get_tensor(name).astype(np.float32)
                    for name in ("states", "actions", "state_mean", "state_std")
                }
            card_path = path.with_suffix(".json")
            if card_path.exists() and card_path.stat().st_size > MAX_CARD_BYTES:
                raise InvalidDataError(f"{card_path} is too large to be a card.", "Remove it.")
            card = json.loads(card_path.read_text()) if card_path.exists() else {}
            return cls(
                states=arrays["states"],
                actions=arrays["actions"],
                standardizer=Standardizer(arrays["state_mean"], arrays["state_std"]),
                task=get_task(task),
                card=card if isinstance(card, dict) else {},
            )

    def export(self, path: Path | str, format: str | None = None) -> Path:
        """Write raw observations and actions for other libraries, and return ``path``.

        :mod:`obdbench.distillation.export` describes the formats ``d3rlpy``, ``hdf5`` (D4RL),
        ``minari``, ``npz`` and ``torch``. Without a format, the suffix of ``path`` selects it. For
        Minari, ``path`` is the name of the new dataset, such as ``hopper-synset-v0``. Readers that
        require valid actions, such as ``file:`` datasets, refuse most synsets.
        """
        path = Path(path)
        export_pairs(
            path,
            resolve_format(path, format),
            self.observations,
            np.asarray(self.actions, np.float32),
            standardizer=self.standardizer,
            task=self.task,
            card=self.card,
        )
        return path
