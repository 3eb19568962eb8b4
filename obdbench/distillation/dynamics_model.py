r"""A dynamics model of the offline data: an ensemble of networks fitted to its transitions.

Every member predicts the standardized difference of successive states from the standardized state
and the action,

.. math:: \hat s' = \hat s + \mu_\Delta + \sigma_\Delta \odot f_k(\hat s, a),

and is trained by mean squared error (as the deterministic ensembles of Kurutach et al., 2018,
arXiv 1802.10592). No environment takes part. The model is fitted once per dataset and kept in the
cache under the dataset's checksum.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import silu

from obdbench.datasets.dataset import Array, Dataset, require_next_observations
from obdbench.datasets.download import cache_root
from obdbench.distillation.random_streams import DYNAMICS_STREAM
from obdbench.io import read_or_make, replace_atomically
from obdbench.offline_rl.networks import apply_networks
from obdbench.policies.networks import Params, seeded_generator
from obdbench.policies.torch_settings import single_thread

FIT_VERSION = 2  # of the fit, so that a changed one is not read from the cache
HELD_OUT = 0.05
LARGEST_HELD_OUT = 10_000
EDGE = 5e-4  # quantile that bounds the range of the data
MARGIN = 0.5  # of the range, added on either side
RANGES = ("difference_mean", "difference_std", "lowest", "highest")  # of states, in the file


@dataclass(frozen=True)
class DynamicsSettings:
    """Settings of the ensemble; part of the cache's key."""

    members: int = 3
    width: int = 200
    hidden_layers: int = 3
    steps: int = 6_000
    batch: int = 256
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class DynamicsModel:
    """A fitted ensemble over standardized states."""

    params: Params
    difference_mean: Tensor
    difference_std: Tensor
    lowest: Tensor
    highest: Tensor
    held_out_error: float

    @property
    def members(self) -> int:
        """Number of networks in the ensemble."""
        return len(self.params["w0"])

    @torch.no_grad()
    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """Next standardized states, shape (members, N, observation), for one batch per member."""
        inputs = torch.cat([states, actions], dim=-1)
        outputs = apply_networks(self.params, inputs, activation=silu)
        return states + self.difference_mean + self.difference_std * outputs

    def inside(self, states: Tensor) -> Tensor:
        """Which states lie within the range of the data, widened on either side."""
        return ((states >= self.lowest) & (states <= self.highest)).all(dim=-1)


def fit_dynamics(
    dataset: Dataset, settings: DynamicsSettings = DynamicsSettings()
) -> DynamicsModel:
    """Fit the ensemble to the transitions of a dataset."""
    next_observations = require_next_observations(dataset, "a dynamics model")
    states = torch.from_numpy(dataset.states)
    differences = torch.from_numpy(dataset.standardizer.apply(next_observations)) - states
    inputs = torch.cat([states, torch.from_numpy(np.asarray(dataset.actions, np.float32))], dim=1)
    rows = _rows_with_next_state(dataset)
    order = rows[
        torch.randperm(len(rows), generator=seeded_generator(settings.seed, DYNAMICS_STREAM, 0))
    ]
    held_out = order[: min(LARGEST_HELD_OUT, max(1, int(HELD_OUT * len(order))))]
    training = order[len(held_out) :]
    mean = differences[training].mean(dim=0)
    std = differences[training].std(dim=0).clamp_min(1e-6)
    targets = (differences - mean) / std
    params = _train(inputs, targets, training, settings)
    with torch.no_grad():
        held_out_inputs = inputs[held_out].expand(settings.members, -1, -1)
        predicted = apply_networks(params, held_out_inputs, activation=silu)
        error = float((predicted - targets[held_out]).square().mean())
    lowest, highest = _range_of(dataset.states)
    return DynamicsModel(params, mean, std, lowest, highest, error)


def _rows_with_next_state(dataset: Dataset) -> Tensor:
    """Rows whose next observation is that of their transition.

    In D4RL's form the next observation of a terminal row is the first one of the next episode.
    """
    assert dataset.next_observations is not None
    following = (dataset.next_observations[:-1] == dataset.observations[1:]).all(axis=1)
    resets = np.append(following & np.asarray(dataset.terminals[:-1], bool), False)
    return torch.from_numpy(np.flatnonzero(~resets))


def _train(inputs: Tensor, targets: Tensor, rows: Tensor, settings: DynamicsSettings) -> Params:
    generators = [
        seeded_generator(settings.seed, DYNAMICS_STREAM, 1, member)
        for member in range(settings.members)
    ]
    params = {}
    for index, (columns, outputs) in enumerate(
        _layer_sizes(inputs.shape[1], targets.shape[1], settings)
    ):
        drawn = [torch.randn(outputs, columns, generator=g) / columns**0.5 for g in generators]
        params[f"w{index}"] = torch.stack(drawn).requires_grad_()
        params[f"b{index}"] = torch.zeros(settings.members, outputs).requires_grad_()
    optimizer = torch.optim.Adam([*params.values()], settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for _ in range(settings.steps):
        drawn_rows = torch.stack(
            [
                rows[torch.randint(len(rows), (settings.batch,), generator=generator)]
                for generator in generators
            ]
        )
        predicted = apply_networks(params, inputs[drawn_rows], activation=silu)
        errors = predicted - targets[drawn_rows]
        loss = errors.square().mean(dim=(1, 2)).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return {name: tensor.detach() for name, tensor in params.items()}


def _layer_sizes(inputs: int, outputs: int, settings: DynamicsSettings) -> list[tuple[int, int]]:
    """Numbers of inputs and outputs of every layer."""
    return list(pairwise([inputs, *[settings.width] * settings.hidden_layers, outputs]))


def _range_of(states: Array) -> tuple[Tensor, Tensor]:
    low, high = np.quantile(states, [EDGE, 1.0 - EDGE], axis=0)
    margin = MARGIN * (high - low)
    return (
        torch.from_numpy((low - margin).astype(np.float32)),
        torch.from_numpy((high + margin).astype(np.float32)),
    )


def dynamics_path(dataset: Dataset, settings: DynamicsSettings) -> Path:
    """Where the model of a dataset is kept."""
    identity = [FIT_VERSION, dataset.checksum, asdict(settings)]
    digest = hashlib.sha256(json.dumps(identity).encode())
    if dataset.next_observations is not None:  # the dataset's checksum does not contain them
        digest.update(np.ascontiguousarray(dataset.next_observations).tobytes())
    name = digest.hexdigest()[:24]
    return cache_root() / "dynamics" / f"{name}.safetensors"


def load_dynamics(
    dataset: Dataset, settings: DynamicsSettings = DynamicsSettings()
) -> DynamicsModel:
    """The model of a dataset, fitted on first use."""
    path = dynamics_path(dataset, settings)

    def fit() -> DynamicsModel:
        with single_thread():
            model = fit_dynamics(dataset, settings)
        _write(model, path)
        return model

    return read_or_make(path, lambda: _read(path, dataset, settings), fit)


def _write(model: DynamicsModel, path: Path) -> None:
    tensors = {
        **{f"params.{name}": tensor.contiguous() for name, tensor in model.params.items()},
        **{name: getattr(model, name) for name in RANGES},
    }
    with replace_atomically(path) as temporary:
        save_file(tensors, temporary, metadata={"held_out_error": repr(model.held_out_error)})


def _read(path: Path, dataset: Dataset, settings: DynamicsSettings) -> DynamicsModel | None:
    """The cached model; ``None`` if it is absent, damaged or of other sizes."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            error = float((file.metadata() or {})["held_out_error"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    size, members = dataset.observation_size, settings.members
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(RANGES, (size,))
    layers = _layer_sizes(size + dataset.action_size, size, settings)
    for index, (columns, outputs) in enumerate(layers):
        shapes[f"params.w{index}"] = (members, outputs, columns)
        shapes[f"params.b{index}"] = (members, outputs)
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
        return None
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        return None
    ranges = {name: tensors.pop(name) for name in RANGES}
    params = {name.removeprefix("params."): tensor for name, tensor in tensors.items()}
    return DynamicsModel(params, **ranges, held_out_error=error)
