r"""Teachers: a tanh-Gaussian actor and two critics over raw observations.

.. math::

    \mu, s = \mathrm{actor}(\hat s), \qquad
    \sigma = \exp\big(\mathrm{clip}(m\,s + c,\ -20,\ 2)\big), \qquad
    \pi^*(s) = \tanh\mu

and :math:`q(s, a) = \min_i \mathrm{critic}_i(\hat s, a)`, with :math:`\hat s` the observation
standardized by the moments of the data the teacher was trained on. The format is that of Cal-QL
(Nakamoto et al., 2023, arXiv 2303.05479), whose policies serve as teachers in the OBD paper.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Array, Standardizer
from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError, ObdError

Layers = tuple[tuple[Tensor, Tensor], ...]
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
CHUNK = 16_384


def forward(layers: Layers, x: Tensor) -> Tensor:
    """A ReLU network given as (weight, bias) pairs."""
    for weight, bias in layers[:-1]:
        x = torch.relu(torch.nn.functional.linear(x, weight, bias))
    weight, bias = layers[-1]
    return torch.nn.functional.linear(x, weight, bias)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A near-expert policy with its action value."""

    id: str
    actor: Layers
    critics: tuple[Layers, ...]
    standardizer: Standardizer
    log_std_multiplier: float = 1.0
    log_std_offset: float = -1.0
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        observation, action = self.observation_size, self.action_size
        problems = [
            *_layer_problems("actor", self.actor, observation, 2 * action),
            *(
                problem
                for index, critic in enumerate(self.critics)
                for problem in _layer_problems(f"critic {index}", critic, observation + action, 1)
            ),
        ]
        mean, std = self.standardizer.mean, self.standardizer.std
        if mean.shape != (observation,):
            problems.append(f"state means of shape {mean.shape} for {observation} inputs")
        if std.shape != mean.shape:
            problems.append("as many state spreads as means are needed")
        if (std < 0).any():
            problems.append("its state spreads are negative")
        if not isinstance(self.card, Mapping):
            problems.append(f"its card is a {type(self.card).__name__}, no dictionary")
        scales = (self.log_std_multiplier, self.log_std_offset)
        if not all(np.isfinite(held).all() for held in (*vars(self.standardizer).values(), scales)):
            problems.append("its scales are not finite")
        if problems:
            raise InvalidDataError(
                f"Teacher {self.id!r} is malformed: {problems[0]}.", "Fetch or retrain it."
            )

    @property
    def observation_size(self) -> int:
        """Length of the observations the actor takes."""
        return int(self.actor[0][0].shape[1])

    @property
    def action_size(self) -> int:
        """Length of the actions the actor gives."""
        return int(self.actor[-1][0].shape[0]) // 2

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over all weights and the standardization."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
        digest.update(f"{self.log_std_multiplier}{self.log_std_offset}".encode())
        return digest.hexdigest()

    def _states(self, observations: Array) -> Tensor:
        return torch.from_numpy(self.standardizer.apply(np.asarray(observations)))

    def distribution(self, observations: Array) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the Gaussian before the tanh."""
        mean, raw = forward(self.actor, self._states(observations)).chunk(2, dim=-1)
        log_std = (self.log_std_multiplier * raw + self.log_std_offset).clamp(
            LOG_STD_MIN, LOG_STD_MAX
        )
        return mean, log_std.exp()

    @torch.no_grad()
    def act(self, observations: Array, rng: np.random.Generator | None = None) -> Array:
        """Actions for raw observations: the mode, or a sample where ``rng`` is given."""
        mean, std = self.distribution(observations)
        if rng is not None:
            noise = rng.standard_normal(tuple(mean.shape), dtype=np.float32)
            mean = mean + std * torch.from_numpy(noise)
        return np.asarray(torch.tanh(mean).numpy())

    @torch.no_grad()
    def value(self, observations: Array, actions: Array) -> Array:
        """Action value: the smaller of the critics' estimates, computed in chunks."""
        if not self.critics:
            raise InvalidDataError(
                f"Teacher {self.id!r} has no critic.", "Give it one: values are asked of it."
            )
        values = []
        for rows in _chunks(len(observations), CHUNK):
            taken = torch.from_numpy(np.asarray(actions[rows]))
            inputs = torch.cat([self._states(observations[rows]), taken], -1)
            estimates = [forward(critic, inputs).squeeze(-1) for critic in self.critics]
            values.append(torch.stack(estimates).amin(dim=0).numpy())
        return np.concatenate(values)

    def columns(self, observations: Array, chunk: int = CHUNK) -> dict[str, Array]:
        """Over a whole dataset: the teacher's action, spread and value, computed in chunks."""
        actions, values, stds, means = [], [], [], []
        for rows in _chunks(len(observations), chunk):
            part = observations[rows]
            with torch.no_grad():
                mean, std = self.distribution(part)
            action = np.asarray(torch.tanh(mean).numpy())
            means.append(mean.numpy())
            stds.append(std.numpy())
            actions.append(action)
            values.append(self.value(part, action))
        return {
            "teacher_actions": np.concatenate(actions),
            "teacher_mean": np.concatenate(means),
            "teacher_std": np.concatenate(stds),
            "teacher_q": np.concatenate(values),
        }

    def tensors(self) -> dict[str, Tensor]:
        """All arrays under flat names, as they are stored."""
        flat: dict[str, Tensor] = {
            "state_mean": torch.from_numpy(np.asarray(self.standardizer.mean, np.float32)),
            "state_std": torch.from_numpy(np.asarray(self.standardizer.std, np.float32)),
        }
        networks = {"actor": self.actor}
        networks.update({f"critic{i}": critic for i, critic in enumerate(self.critics)})
        for network, layers in networks.items():
            for index, (weight, bias) in enumerate(layers):
                flat[f"{network}.{index}.weight"] = weight
                flat[f"{network}.{index}.bias"] = bias
        return flat

    def save(self, path: Path) -> None:
        """Write safetensors with the card in its metadata."""
        from safetensors.torch import save_file

        metadata = {
            "format": "obdbench-teacher-1",
            "id": self.id,
            "log_std_multiplier": repr(self.log_std_multiplier),
            "log_std_offset": repr(self.log_std_offset),
            "card": json.dumps(dict(self.card)),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors().items()}
        save_file(tensors, path, metadata=metadata)


def load(path: Path) -> Teacher:
    """Read a teacher written by :meth:`Teacher.save`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != "obdbench-teacher-1":
            raise InvalidDataError(f"{path.name} is no teacher of this project.", "Fetch it again.")
        critics = sorted({name.split(".")[0] for name in tensors if name.startswith("critic")})
        if not critics:
            raise InvalidDataError(
                f"The teacher file {path.name} holds no critic.", "Fetch or retrain it."
            )
        return Teacher(
            id=metadata["id"],
            actor=_layers(tensors, "actor"),
            critics=tuple(_layers(tensors, critic) for critic in critics),
            standardizer=Standardizer(tensors["state_mean"].numpy(), tensors["state_std"].numpy()),
            log_std_multiplier=float(metadata["log_std_multiplier"]),
            log_std_offset=float(metadata["log_std_offset"]),
            card=json.loads(metadata.get("card", "{}")),
        )
    except ObdError:
        raise
    except (
        *(OSError, SafetensorError, KeyError, ValueError, IndexError, TypeError),
        RecursionError,
    ) as error:
        raise InvalidDataError(
            f"The teacher file {path.name} cannot be read: {error}.", "Fetch or retrain it."
        ) from error


def _layers(tensors: Mapping[str, Tensor], network: str) -> Layers:
    count = len({name for name in tensors if name.startswith(f"{network}.")}) // 2
    return tuple(
        (tensors[f"{network}.{index}.weight"], tensors[f"{network}.{index}.bias"])
        for index in range(count)
    )


def _layer_problems(name: str, layers: Layers, inputs: int, outputs: int) -> Iterator[str]:
    width = inputs
    for index, (weight, bias) in enumerate(layers):
        if weight.ndim != 2 or bias.ndim != 1 or weight.shape != (bias.shape[0], width):
            yield f"{name} layer {index} has shapes {tuple(weight.shape)}, {tuple(bias.shape)}"
            return
        if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            yield f"{name} layer {index} holds values that are not finite"
        width = int(weight.shape[0])
    if width != outputs:
        yield f"{name} gives {width} outputs, not {outputs}"


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, max(total, 1), size):
        yield slice(start, min(start + size, total))


def load_teacher(dataset_id: str) -> Teacher:
    """The teacher that belongs to a dataset.

    Embedded datasets ship their own; ``d4rl/`` and ``recon/`` use the published Cal-QL policies.
    None is known for other data: :func:`load` reads one of your own.
    """
    parsed = DatasetId(dataset_id)
    if parsed.source == "embedded":
        from obdbench.datasets.embedded import teacher_path

        return load(teacher_path(dataset_id))
    if parsed.source in ("d4rl", "recon"):
        from obdbench.teachers.checkpoint import load_published

        return load_published(parsed.name)
    raise ObdError(
        f"No teacher is known for {dataset_id!r}.",
        "Use an embedded, recon or d4rl dataset, an objective that needs no teacher, or pass a "
        "Teacher to obdbench.distill in Python.",
    )
