"""Outer problems that can be solved by hand: a student with one weight, and constant data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.solvers.solver import OuterProblem
from obdbench.objectives.dbc import DBC
from obdbench.objectives.objective import Batch, Objective
from obdbench.policies.networks import Params, seeded_generator

DOUBLE = torch.float64
WEIGHT = 0.5


class ScalarStudent:
    """π(s) = w s for states and actions of one number, with w = 0.5 before cloning."""

    def init(
        self, generators: list[torch.Generator], *_: int, dtype: torch.dtype, device: str
    ) -> Params:
        return {"w": torch.full((len(generators), 1, 1), WEIGHT, dtype=dtype, device=device)}

    def act(self, params: Params, states: Tensor, noise: Tensor | None = None) -> Tensor:
        return states * params["w"]


class TripleDBC(DBC):
    """DBC with the weight 3."""

    name = "triple-dbc"

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        return 3 * super().loss(actions, batch)


class AbsoluteError(DBC):
    """The mean absolute error, which is no squared distance."""

    name = "absolute-error"

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        return (actions - batch.actions).abs().mean((-2, -1))


class LinearLoss(DBC):
    """A loss without a minimum."""

    name = "linear-loss"

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        return actions.mean((-2, -1))


def outer_problem(
    states: Any, actions: Any, objective: Objective | None = None, seeds: int = 1
) -> OuterProblem:
    """A problem whose data are these states and actions, in double precision."""
    columns = {"states": torch.tensor(states, dtype=DOUBLE)}
    columns["actions"] = torch.tensor(actions, dtype=DOUBLE)
    generators = [[seeded_generator(s, stream) for s in range(seeds)] for stream in (1, 2, 3)]
    sizes = columns["states"].shape[1], columns["actions"].shape[1]
    return OuterProblem(
        objective or DBC(),
        BatchSampler(columns),
        *generators,
        *sizes,
        step=0,
        dtype=DOUBLE,
        device="cpu",
    )
