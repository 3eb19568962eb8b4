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
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.outer_optimizer import OuterOptimizer
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.student_check import GuardState, StudentCheck
from obdbench.errors import ObdError, first_line
from obdbench.objectives.objective import Objective
from obdbench.teachers.teacher import Teacher
from obdbench.training_state import save_state, saved_state

STORED = ("carried", "step", "losses", "seconds", "points", "added_states")  # as they are


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
    guard = state.guard
    content = {
        "states": state.states.detach(),
        "actions": state.actions.detach(),
        "moments": state.optimizer.moments,
        "generators": {
            stream: [generator.get_state() for generator in generators]
            for stream, generators in state.generators.items()
        },
        **{name: getattr(state, name) for name in STORED},
        "guard": guard
        and {
            **vars(guard),
            "checks": [[astuple(check) for check in checks] for checks in guard.checks],
        },
    }
    try:
        save_state(path, state.identity, content)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
        raise ObdError(
            f"The snapshot {path} cannot be written: {first_line(error)}.",
            "Free some space or choose another folder.",
        ) from error


def load_snapshot(state: DistillationState, path: Path) -> None:
    """Replace the content of ``state`` by that of a snapshot of the same distillation, if any."""
    with saved_state(path, state.identity) as saved:
        if saved is not None:
            _restore(state, saved)


def _restore(state: DistillationState, saved: dict[str, Any]) -> None:
    x, a = state.states, state.actions
    x.copy_(_like(saved["states"], x))
    a.copy_(_like(saved["actions"], a))
    moments, carried = saved["moments"], saved["carried"]
    state.optimizer.moments = {
        name: _like(value, a if name.endswith("1") else x) for name, value in moments.items()
    }
    state.carried = {
        name: _like(value, a if name.endswith(".a") else x) for name, value in carried.items()
    }
    for stream, generators in state.generators.items():
        for generator, value in zip(generators, saved["generators"][stream], strict=True):
            generator.set_state(value)
    state.step, state.seconds = int(saved["step"]), float(saved["seconds"])
    state.losses = [[(int(step), float(loss)) for step, loss in curve] for curve in saved["losses"]]
    state.points = {
        int(step): (_like(states, x).cpu(), _like(actions, a).cpu(), float(seconds))
        for step, (states, actions, seconds) in saved["points"].items()
    }
    state.added_states = [
        {int(step): _check_added_states(added, x.shape[-1]) for step, added in rounds.items()}
        for rounds in saved["added_states"]
    ]
    lengths = {len(state.losses), len(state.added_states)}
    if state.guard is not None:
        guard = saved["guard"]
        state.guard.best_states.copy_(_like(guard["best_states"], x))
        state.guard.best_actions.copy_(_like(guard["best_actions"], a))
        state.guard.checks = [
            [StudentCheck(int(step), float(v), float(o)) for step, v, o in checks]
            for checks in guard["checks"]
        ]
        state.guard.ended = {int(index): int(step) for index, step in guard["ended"].items()}
        state.guard.generators = {
            (int(stream), int(index)): value
            for (stream, index), value in guard["generators"].items()
        }
        lengths.add(len(state.guard.checks))
    if state.step < 0 or lengths != {len(x)}:
        raise ValueError("its content does not match this run")


def _like(value: Tensor, tensor: Tensor) -> Tensor:
    """Return a saved tensor on the device and with the type of one of the same shape."""
    if value.shape != tensor.shape:
        raise ValueError("a tensor has another shape")
    return value.to(tensor)


def _check_added_states(states: Tensor, observation_size: int) -> Tensor:
    is_table = states.ndim == 2 and states.shape[1] == observation_size and len(states) > 0
    if not is_table or states.dtype != torch.float32 or not torch.isfinite(states).all():
        raise ValueError("added states are no finite table")
    return states
