"""The state of a distillation, and how it outlives an interruption.

A snapshot holds the synsets, the outer optimizer, the generators and the curve so far. A run that
goes on from one ends with the same bits as one that was never interrupted. It also says what it was
made of: a run goes on from no other's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.outer_optimizer import OuterOptimizer
from obdbench.distillation.settings import DistillSettings
from obdbench.errors import ObdError
from obdbench.io import write_atomically
from obdbench.objectives.objective import Objective
from obdbench.teachers.teacher import Teacher

POLICIES, BATCHES, NOISE = 1, 2, 3


@dataclass
class Run:
    """Everything that changes from step to step, and whose steps they are."""

    x: Tensor
    a: Tensor
    outer: OuterOptimizer
    generators: dict[int, list[torch.Generator]]
    identity: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    losses: list[list[tuple[int, float]]] = field(default_factory=list)
    points: dict[int, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    seconds: float = 0.0
    durations: list[float] = field(default_factory=list)


def identity_of(
    dataset: Dataset,
    teacher: Teacher | None,
    objective: Objective,
    settings: DistillSettings,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """What a snapshot must have been made of to go on from it; where it is scored is free."""
    own = {
        "dataset": dataset.checksum,
        "teacher": None if teacher is None else teacher.checksum,
        "objective": objective.name,
        "parameters": objective.settings(),
        "settings": settings.model_dump(mode="json", exclude={"evaluate_at"}),
        "seeds": list(seeds),
    }
    made: dict[str, Any] = json.loads(json.dumps(own, default=lambda other: type(other).__name__))
    return made


def save(run: Run, path: Path) -> None:
    """Write the snapshot atomically."""
    from safetensors.torch import save as packed

    tensors = {"x": run.x, "a": run.a}
    tensors.update({f"moment.{name}": value for name, value in run.outer.moments.items()})
    for stream, generators in run.generators.items():
        for index, generator in enumerate(generators):
            tensors[f"generator.{stream}.{index}"] = generator.get_state()
    for step, (x, a, _) in run.points.items():
        tensors[f"point.{step}.x"], tensors[f"point.{step}.a"] = x, a
    state: dict[str, Any] = {
        "identity": run.identity,
        "step": run.step,
        "losses": run.losses,
        "seconds": run.seconds,
        "durations": run.durations[-1000:],
        "points": {step: seconds for step, (_, _, seconds) in run.points.items()},
    }
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    try:
        write_atomically(path, packed(tensors, metadata={"state": json.dumps(state)}))
    except OSError as error:
        raise ObdError(
            f"The snapshot {path} cannot be written: {error}.",
            "Free some space or choose another folder with --out.",
        ) from error


def restore(run: Run, path: Path) -> None:
    """Go on from a snapshot; a damaged one is one clear error."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            others = [key for key, own in run.identity.items() if state["identity"][key] != own]
            if others:
                raise ValueError(f"it is of a run that differs in {others[0]}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, value in tensors.items():
            like = {"x": run.x, "0": run.x, "a": run.a, "1": run.a}.get(name[-1])
            if name[:9] != "generator" and (like is None or value.shape != like.shape):
                raise ValueError(f"it holds {name} of another shape")
        run.x.copy_(tensors["x"])
        run.a.copy_(tensors["a"])
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "moment":
                run.outer.moments[rest] = value.to(run.x.device, run.x.dtype)
            elif kind == "generator":
                stream, index = rest.split(".")
                run.generators[int(stream)][int(index)].set_state(value)
        run.step = int(state["step"])
        run.losses = [[(int(s), float(v)) for s, v in curve] for curve in state["losses"]]
        if run.step < 0 or len(run.losses) != len(run.x):
            raise ValueError("it holds no state of this run")
        run.seconds, run.durations = float(state["seconds"]), list(map(float, state["durations"]))
        run.points = {
            int(step): (tensors[f"point.{step}.x"], tensors[f"point.{step}.a"], float(seconds))
            for step, seconds in state["points"].items()
        }
    except (
        *(OSError, SafetensorError, RuntimeError, LookupError),
        *(ValueError, TypeError, AttributeError, OverflowError),
    ) as error:
        raise ObdError(
            f"The snapshot {path} cannot be used: {error}.",
            "Remove it to start this distillation again.",
        ) from error
