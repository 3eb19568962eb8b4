r"""Teachers: a tanh-Gaussian actor and its critics, if any, over raw observations.

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
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from obdbench.datasets.dataset import STD_OFFSET, Array, Standardizer
from obdbench.errors import InvalidDataError, unreadable
from obdbench.io import write_file
from obdbench.policies.networks import LOG_STD_MAX, LOG_STD_MIN

Layers = tuple[tuple[Tensor, Tensor], ...]
CHUNK_ROWS = 16_384
FILE_FORMAT = "obdbench-teacher-1"


def apply_layers(layers: Layers, x: Tensor) -> Tensor:
    """Apply a ReLU network given as (weight, bias) pairs."""
    for weight, bias in layers[:-1]:
        x = torch.relu(torch.nn.functional.linear(x, weight, bias))
    weight, bias = layers[-1]
    return torch.nn.functional.linear(x, weight, bias)


def raw_observations(size: int) -> Standardizer:
    """The map of a teacher that acts on observations as they are: its scale is exactly one."""
    std = np.full(size, 1.0 - STD_OFFSET, np.float32)
    return Standardizer(np.zeros(size, np.float32), std)


def with_constant_std(actor: Layers, log_std: Tensor | None = None) -> Layers:
    """Extend an actor that gives means by constant log standard deviations, shape (action,).

    Without them the actor is deterministic, which a teacher represents by the smallest ones.
    """
    *hidden, (weight, bias) = actor
    stds = torch.full_like(bias, LOG_STD_MIN) if log_std is None else log_std.detach().to(bias)
    return (*hidden, (torch.cat([weight, torch.zeros_like(weight)]), torch.cat([bias, stds])))


@dataclass(frozen=True, eq=False)
class Teacher:
    """A policy with its action value."""

    id: str
    actor: Layers
    critics: tuple[Layers, ...]
    standardizer: Standardizer
    log_std_multiplier: float = 1.0
    log_std_offset: float = -1.0
    card: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Teacher {self.id}>"

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
            problems.append("state standard deviations and state means have different shapes")
        if (std < 0).any():
            problems.append("a state standard deviation is negative")
        if not isinstance(self.card, Mapping):
            problems.append(f"the card is a {type(self.card).__name__}, not a dictionary")
        scales = (mean, std, (self.log_std_multiplier, self.log_std_offset))
        if not all(np.isfinite(values).all() for values in scales):
            problems.append("a scale is not finite")
        if problems:
            raise InvalidDataError(
                f"Teacher {self.id!r} is invalid: {problems[0]}.", "Download or retrain it."
            )

    @property
    def observation_size(self) -> int:
        """Number of observation dimensions."""
        return int(self.actor[0][0].shape[1])

    @property
    def action_size(self) -> int:
        """Number of action dimensions."""
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

    def _standardize(self, observations: Array) -> Tensor:
        return torch.from_numpy(self.standardizer.apply(np.asarray(observations)))

    @torch.no_grad()
    def distribution(self, observations: Array) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the Gaussian before the tanh, computed in chunks."""
        chunks = torch.split(self._standardize(observations), CHUNK_ROWS)
        outputs = torch.cat([apply_layers(self.actor, states) for states in chunks])
        mean, raw = outputs.chunk(2, dim=-1)
        log_std = self.log_std_multiplier * raw + self.log_std_offset
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()

    def act(self, observations: Array, rng: np.random.Generator | None = None) -> Array:
        """Actions for raw observations: the mode, or a sample if ``rng`` is given."""
        mean, std = self.distribution(observations)
        if rng is not None:
            noise = rng.standard_normal(tuple(mean.shape), dtype=np.float32)
            mean = mean + std * torch.from_numpy(noise)
        return np.asarray(torch.tanh(mean).numpy())

    def require_critics(self, dataset_id: str = "DATASET") -> None:
        """Raise an error that says how to fit a critic if there is none."""
        if not self.critics:
            raise InvalidDataError(
                f"Action values are needed, and the teacher {self.id!r} has no critic.",
                f"Fit one with `obdbench teach {dataset_id} --algorithm fitted-q --policy POLICY`, "
                "or use a method that needs no action value.",
            )

    @torch.no_grad()
    def value(self, observations: Array, actions: Array) -> Array:
        """Action values :math:`q(s, a)`: the minimum over critics, computed in chunks."""
        self.require_critics()
        states = self._standardize(observations)
        inputs = torch.cat([states, torch.from_numpy(np.asarray(actions, np.float32))], -1)
        values = []
        for rows in torch.split(inputs, CHUNK_ROWS):
            estimates = [apply_layers(critic, rows).squeeze(-1) for critic in self.critics]
            values.append(torch.stack(estimates).amin(dim=0).numpy())
        return np.concatenate(values)

    def columns(self, observations: Array) -> dict[str, Array]:
        """The teacher's action, Gaussian and value on every state.

        Without critics there is no column ``teacher_q``.
        """
        mean, std = self.distribution(observations)
        actions = torch.tanh(mean).numpy()
        columns = {
            "teacher_actions": actions,
            "teacher_mean": mean.contiguous().numpy(),
            "teacher_std": std.numpy(),
        }
        if self.critics:
            columns["teacher_q"] = self.value(observations, actions)
        return columns

    def tensors(self) -> dict[str, Tensor]:
        """All weights and moments by the names they have in a file."""
        tensors: dict[str, Tensor] = {
            "state_mean": torch.from_numpy(np.asarray(self.standardizer.mean, np.float32)),
            "state_std": torch.from_numpy(np.asarray(self.standardizer.std, np.float32)),
        }
        networks = {"actor": self.actor}
        networks.update({f"critic{i}": critic for i, critic in enumerate(self.critics)})
        for network, layers in networks.items():
            for index, (weight, bias) in enumerate(layers):
                tensors[f"{network}.{index}.weight"] = weight
                tensors[f"{network}.{index}.bias"] = bias
        return tensors

    def save(self, path: Path) -> None:
        """Write a safetensors file with the card in its metadata, atomically."""
        metadata = {
            "format": FILE_FORMAT,
            "id": self.id,
            "log_std_multiplier": repr(self.log_std_multiplier),
            "log_std_offset": repr(self.log_std_offset),
            "card": json.dumps(dict(self.card)),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors().items()}
        write_file(path, save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> Teacher:
        """Read a file written by :meth:`save`."""
        remedy = "Download or retrain it."
        with unreadable(f"The teacher file {path.name} cannot be read", remedy):
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {
                    name: file.get_tensor(name).float()
                    for name in file.keys()  # noqa: SIM118
                }
            if metadata.get("format") != FILE_FORMAT:
                raise InvalidDataError(
                    f"{path.name} is not a teacher file of obdbench.",
                    "Import it with obdbench, or train a teacher.",
                )
            names = {name.split(".")[0] for name in tensors if name.startswith("critic")}
            critics = sorted(names, key=lambda name: (len(name), name))  # critic2 before critic10
            return cls(
                id=metadata["id"],
                actor=_network(tensors, "actor"),
                critics=tuple(_network(tensors, critic) for critic in critics),
                standardizer=Standardizer(
                    tensors["state_mean"].numpy(), tensors["state_std"].numpy()
                ),
                log_std_multiplier=float(metadata["log_std_multiplier"]),
                log_std_offset=float(metadata["log_std_offset"]),
                card=json.loads(metadata.get("card", "{}")),
            )


def _network(tensors: Mapping[str, Tensor], network: str) -> Layers:
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
            yield f"{name} layer {index} contains values that are not finite"
        width = int(weight.shape[0])
    if width != outputs:
        yield f"{name} has {width} outputs instead of {outputs}"
