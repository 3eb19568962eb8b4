"""The state of a distillation, and the snapshot file that an interrupted run resumes from.

A snapshot holds the synsets, the outer optimizer, the random generators and the loss curves. A
resumed run ends with the same bits as an uninterrupted one. The snapshot also records the data,
teacher, objective, settings and seeds of its run, and only a run with the same ones resumes from
it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.outer_optimizer import OuterOptimizer
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.student_check import GuardState, StudentCheck
from obdbench.errors import ObdError
from obdbench.io import write_atomically
from obdbench.objectives.objective import Objective
from obdbench.teachers.teacher import Teacher

POLICY_STREAM, BATCH_STREAM, NOISE_STREAM = 1, 2, 3
MAX_SAVED_DURATIONS = 1000
READ_ERRORS = (  # of a damaged or foreign file
    OSError,
    SafetensorError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
)


@dataclass
class DistillationState:
    """Everything that changes from one outer step to the next, for all seeds of a distillation.

    ``states`` and ``actions`` are the stacked synsets (seeds, pairs, …). ``generators`` holds one
    generator per seed for every random stream. ``points`` maps evaluation steps to the synsets at
    that step and the seconds taken until then. ``added_states`` holds, per seed, the states that
    the state source has added, by outer step, and ``source_card`` its entries on synset cards.
    ``carried`` holds what the solver carries from one step to the next.
    """

    states: Tensor
    actions: Tensor
    optimizer: OuterOptimizer
    generators: dict[int, list[torch.Generator]]
    identity: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    losses: list[list[tuple[int, float]]] = field(default_factory=list)
    points: dict[int, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    seconds: float = 0.0
    durations: list[float] = field(default_factory=list)
    guard: GuardState | None = None
    added_states: list[dict[int, Tensor]] = field(default_factory=list)
    source_card: dict[str, Any] = field(default_factory=dict)
    carried: dict[str, Tensor] = field(default_factory=dict)

    @property
    def active_seeds(self) -> list[int]:
        """Indices of the seeds that still take part in the present phase."""
        ended = set() if self.guard is None else {index for _, index in self.guard.generators}
        return [index for index in range(len(self.states)) if index not in ended]

    def synsets(self) -> tuple[Tensor, Tensor]:
        """Return copies of the synsets on the CPU; a seed whose phase has ended keeps its best."""
        states, actions = self.states.cpu().clone(), self.actions.cpu().clone()
        for index in set(range(len(states))) - set(self.active_seeds):
            assert self.guard is not None
            states[index], actions[index] = self.best_of(index)
        return states, actions

    def best_of(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the synset of lowest missed variance of a seed."""
        assert self.guard is not None
        return self.guard.best_states[index], self.guard.best_actions[index]


def snapshot_identity(
    dataset: Dataset,
    teacher: Teacher | None,
    objective: Objective,
    settings: DistillSettings,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Describe the run that a snapshot belongs to; its evaluation points may differ."""
    identity = {
        "dataset": dataset.checksum,
        "teacher": None if teacher is None else teacher.checksum,
        "objective": objective.name,
        "parameters": objective.settings(),
        "settings": settings.model_dump(mode="json", exclude={"evaluate_at"}),
        "seeds": list(seeds),
    }
    as_stored: dict[str, Any] = json.loads(
        json.dumps(identity, default=lambda value: type(value).__name__)
    )
    return as_stored


def save_snapshot(state: DistillationState, path: Path) -> None:
    """Write the snapshot atomically."""
    tensors = {"x": state.states, "a": state.actions}
    tensors.update({f"moment.{name}": value for name, value in state.optimizer.moments.items()})
    for stream, generators in state.generators.items():
        for index, generator in enumerate(generators):
            tensors[f"generator.{stream}.{index}"] = generator.get_state()
    if state.guard is not None:
        tensors["best.x"] = state.guard.best_states
        tensors["best.a"] = state.guard.best_actions
        for (stream, index), generator_state in state.guard.generators.items():
            tensors[f"generator_at_end.{stream}.{index}"] = generator_state
    tensors.update({f"carried.{name}": value for name, value in state.carried.items()})
    for index, rounds in enumerate(state.added_states):
        tensors.update({f"added.{index}.{step}": added for step, added in rounds.items()})
    for step, (states, actions, _) in state.points.items():
        tensors[f"point.{step}.x"], tensors[f"point.{step}.a"] = states, actions
    metadata: dict[str, Any] = {
        "identity": state.identity,
        "step": state.step,
        "losses": state.losses,
        "seconds": state.seconds,
        "durations": state.durations[-MAX_SAVED_DURATIONS:],
        "points": {step: seconds for step, (_, _, seconds) in state.points.items()},
    }
    if state.guard is not None:
        metadata["checks"] = [[astuple(c) for c in checks] for checks in state.guard.checks]
        metadata["ended"] = state.guard.ended
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    try:
        write_atomically(path, save(tensors, metadata={"state": json.dumps(metadata)}))
    except OSError as error:
        raise ObdError(
            f"The snapshot {path} cannot be written: {error}.",
            "Free some space or choose another folder with --out.",
        ) from error


def load_snapshot(state: DistillationState, path: Path) -> None:
    """Replace the content of ``state`` by that of a snapshot of the same distillation."""
    try:
        _restore(state, path)
    except READ_ERRORS as error:
        raise ObdError(
            f"The snapshot {path} cannot be used: {error}.",
            "Remove it to start this distillation again.",
        ) from error


def _restore(state: DistillationState, path: Path) -> None:
    tensors, metadata = _read(state, path)
    state.states.copy_(tensors["x"])
    state.actions.copy_(tensors["a"])
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "moment":
            state.optimizer.moments[rest] = value.to(state.states.device, state.states.dtype)
        elif kind == "carried":
            state.carried[rest] = value.to(state.states.device, state.states.dtype)
        elif kind == "generator":
            stream, index = rest.split(".")
            state.generators[int(stream)][int(index)].set_state(value)
        elif kind == "added":
            seed_index, round_step = map(int, rest.split("."))
            state.added_states[seed_index][round_step] = value
        elif kind == "generator_at_end" and state.guard is not None:
            stream, index = rest.split(".")
            state.guard.generators[int(stream), int(index)] = value
    if state.guard is not None:
        state.guard.best_states.copy_(tensors["best.x"])
        state.guard.best_actions.copy_(tensors["best.a"])
        state.guard.checks = [
            [StudentCheck(int(step), float(v), float(o)) for step, v, o in checks]
            for checks in metadata["checks"]
        ]
        state.guard.ended = {int(i): int(step) for i, step in metadata["ended"].items()}
    state.step = int(metadata["step"])
    state.losses = [
        [(int(step), float(loss)) for step, loss in curve] for curve in metadata["losses"]
    ]
    checks = state.losses if state.guard is None else state.guard.checks
    if state.step < 0 or {len(state.losses), len(checks)} != {len(state.states)}:
        raise ValueError("it holds no state of this run")
    state.seconds = float(metadata["seconds"])
    state.durations = list(map(float, metadata["durations"]))
    state.points = {
        int(step): (tensors[f"point.{step}.x"], tensors[f"point.{step}.a"], float(seconds))
        for step, seconds in metadata["points"].items()
    }


def _read(state: DistillationState, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the metadata of a snapshot, after a check of their shapes."""
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["state"])
        differing = [k for k, value in state.identity.items() if metadata["identity"][k] != value]
        if differing:
            raise ValueError(f"it is of a run that differs in {differing[0]}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    expected_shapes = {
        "x": state.states.shape,
        "0": state.states.shape,
        "a": state.actions.shape,
        "1": state.actions.shape,
    }
    for name, value in tensors.items():
        if name.startswith("added."):
            _check_added_states(name, value, state.states.shape[-1])
        elif name[:9] != "generator" and value.shape != expected_shapes.get(name[-1]):
            raise ValueError(f"it holds {name} of another shape")
    return tensors, metadata


def _check_added_states(name: str, states: Tensor, observation_size: int) -> None:
    is_table = states.ndim == 2 and states.shape[1] == observation_size and len(states) > 0
    if not is_table or states.dtype != torch.float32 or not torch.isfinite(states).all():
        raise ValueError(f"it holds no states under {name}")
