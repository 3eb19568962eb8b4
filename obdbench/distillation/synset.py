"""The synset: a few hundred distilled (state, action) pairs.

A synset is stored as a safetensors file with a JSON card beside it. States are standardized by the
mean and standard deviation of the dataset they were distilled from, which the file also holds, so
raw observations can be computed from the file alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from obdbench.datasets.dataset import Array, Standardizer
from obdbench.errors import InvalidDataError, ObdError, unknown_name
from obdbench.io import write_atomically
from obdbench.tasks.task import Task, get_task

FORMAT = "obdbench-synset-1"
MAX_BYTES = 256 * 1024 * 1024
MAX_CARD_BYTES = 1024 * 1024
EXPORT_FORMATS = ("hdf5", "npz", "minari")


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

    def __post_init__(self) -> None:
        n, task = len(self.states), self.task
        shapes = {"states": (n, task.observation_size), "actions": (n, task.action_size)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or n == 0:
                raise InvalidDataError(
                    f"A synset for {task.name} has {name} of shape {array.shape}, not {shape}.",
                    "Check that it belongs to this task.",
                )
            if not np.isfinite(array).all():
                raise InvalidDataError(
                    f"A synset for {task.name} has {name} that are not finite.",
                    "Its distillation diverged: lower the outer learning rate.",
                )
        for moment in (self.standardizer.mean, self.standardizer.std):
            if moment.shape != (task.observation_size,) or not np.isfinite(moment).all():
                raise InvalidDataError(
                    f"A synset for {task.name} has no {task.observation_size} finite moments.",
                    "Distil it again.",
                )
        if (self.standardizer.std < 0).any():
            raise InvalidDataError(
                f"A synset for {task.name} has negative spreads of states.", "Distil it again."
            )

    def __len__(self) -> int:
        return len(self.states)

    @property
    def observations(self) -> Array:
        """The distilled states in the units of the environment."""
        return self.standardizer.invert(self.states)

    def save(self, path: Path | str) -> Path:
        """Write ``path`` (safetensors) and the JSON card beside it, each atomically."""
        path = Path(path)
        arrays = {
            "states": np.ascontiguousarray(self.states, np.float32),
            "actions": np.ascontiguousarray(self.actions, np.float32),
            "state_mean": np.ascontiguousarray(self.standardizer.mean, np.float32),
            "state_std": np.ascontiguousarray(self.standardizer.std, np.float32),
        }
        card = {"format": FORMAT, "task": self.task.name, **dict(self.card)}
        metadata = {"format": f"{FORMAT} {self.task.name}"}  # the order of several keys would vary
        _write(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
        _write(path, save(arrays, metadata=metadata))
        return path

    @classmethod
    def load(cls, path: Path | str) -> Synset:
        """Read a synset written by :meth:`save`; its card is optional."""
        path = Path(path)
        try:
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
        except ObdError:
            raise
        except (
            *(OSError, SafetensorError, ValueError, TypeError, AttributeError, IndexError),
            RecursionError,
        ) as error:
            raise InvalidDataError(
                f"The synset {path} cannot be read: {error}.", "Distil it again."
            ) from error

    def export(self, path: Path | str, format: str | None = None) -> Path:
        """Write raw observations and actions as HDF5 in D4RL's layout, NPZ, or a Minari dataset.

        Every pair becomes an episode of one step that ends with a terminal, because readers drop
        steps that end with a timeout for lack of a next observation (D4RL's reader drops the last
        row in any case). Rewards are zero. Actions are written as distilled. Most lie outside
        [-1, 1]: they are targets of cloning and not valid actions of the environment. A Minari
        dataset gets an action space that contains them. Readers that require valid actions, such as
        ``file:`` datasets, refuse them.
        """
        path = Path(path)
        suffixes = {".hdf5": "hdf5", ".h5": "hdf5", ".npz": "npz"}
        kind = format or suffixes.get(path.suffix, "minari" if not path.suffix else "")
        if kind not in EXPORT_FORMATS:
            raise unknown_name("export format", kind or path.suffix, EXPORT_FORMATS)
        n = len(self)
        columns = {
            "observations": self.observations,
            "actions": np.asarray(self.actions, np.float32),
            "rewards": np.zeros(n, np.float32),
            "terminals": np.ones(n, bool),
            "timeouts": np.zeros(n, bool),
        }
        if kind == "minari":
            _write_minari(path.name, columns, self.task)
            return path
        content = BytesIO()
        if kind == "npz":
            np.savez(content, **columns)  # type: ignore[arg-type]
        else:
            _write_hdf5(content, columns, self.card)
        _write(path, content.getvalue())
        return path


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ObdError(
            f"{path} cannot be written: {error}.", "Choose a writable folder with free space."
        ) from error


def _write_hdf5(target: BytesIO, columns: dict[str, Array], card: Mapping[str, Any]) -> None:
    with h5py.File(target, "w") as file:
        for name, array in columns.items():
            file.create_dataset(name, data=array)
        file.create_dataset("metadata/card", data=json.dumps(dict(card)))


def _write_minari(dataset_id: str, columns: dict[str, Array], task: Task) -> None:
    try:
        import jax  # noqa: F401  # writing needs Minari's extra "create"
        import minari
        from minari.data_collector.episode_buffer import EpisodeBuffer
    except ImportError as error:
        raise ObdError(
            f"Exporting to Minari needs a package that is missing: {error.name}.",
            "Install it with: pip install 'minari[hdf5,create]'",
        ) from error

    env = gymnasium.make(task.env_id)
    actions = columns["actions"]
    bound = np.maximum(np.abs(actions).max(axis=0), 1.0)
    buffers = [
        EpisodeBuffer(
            id=index,
            observations=[observation, observation],
            actions=[action],
            rewards=[0.0],
            terminations=[True],
            truncations=[False],
            infos={},
        )
        for index, (observation, action) in enumerate(
            zip(
                columns["observations"].astype(env.observation_space.dtype),
                actions,
                strict=True,
            )
        )
    ]
    minari.create_dataset_from_buffers(
        dataset_id=dataset_id,
        buffer=buffers,
        env=env,
        action_space=gymnasium.spaces.Box(-bound, bound, dtype=np.float32),
        algorithm_name="obdbench",
        description="Distilled pairs; every pair is an episode of one step with zero reward.",
    )
