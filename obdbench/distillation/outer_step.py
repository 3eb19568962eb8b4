"""One outer step of all seeds: a solver's gradient, and the update of the synsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.added_states import AddedStates
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.phase_solvers import PhaseSolvers
from obdbench.distillation.random_streams import (
    BATCH_STREAM,
    NOISE_STREAM,
    POLICY_STREAM,
    PREPARE_STREAM,
)
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.snapshot import DistillationState
from obdbench.distillation.solvers.solver import OuterProblem, ProblemSize
from obdbench.distillation.state_sources.state_source import StateSource, load_fixed_dataset
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import Objective
from obdbench.teachers.teacher import Teacher


def check_columns(objective: str, columns: object) -> None:
    """Raise an error unless an objective prepared a dictionary of tensors."""
    if not isinstance(columns, dict):
        raise InvalidDataError(
            f"prepare of {objective!r} returns {type(columns).__name__}, not a dictionary.",
            "Return the columns by name.",
        )
    for name, column in columns.items():
        if not isinstance(column, Tensor):
            raise InvalidDataError(
                f"prepare of {objective!r} returns {type(column).__name__} as the column {name!r}.",
                "Columns are tensors: torch.from_numpy makes one.",
            )


class OuterStep:
    """Takes the outer steps of one distillation, on prepared data and in reused buffers."""

    def __init__(
        self,
        source: StateSource,
        teacher: Teacher | None,
        objective: Objective,
        settings: DistillSettings,
        state: DistillationState,
        seeds: Sequence[int],
        *,
        device: str,
        memory: int,
        dtype: torch.dtype,
    ) -> None:
        self.objective, self.state = objective, state
        self.device, self.dtype = device, dtype
        self.sizes = (source.dataset.observation_size, source.dataset.action_size)
        self.solvers = PhaseSolvers(settings, memory)
        size = ProblemSize(len(state.states), *self.sizes, dtype, device)
        self.solvers.required_bytes(size, first_step=state.step)

        def make_sampler(dataset: Dataset, rng: np.random.Generator) -> BatchSampler:
            prepared = objective.prepare(dataset, teacher, rng)
            check_columns(objective.name, prepared)
            columns = {
                name: column.to(dtype) if column.is_floating_point() else column
                for name, column in prepared.items()
            }
            return BatchSampler.from_dataset(
                dataset, columns, device, tuple(objective.noise_columns)
            )

        dataset = load_fixed_dataset(source)
        self.sampler = make_sampler(dataset, np.random.default_rng([0, PREPARE_STREAM]))
        self.added_states: AddedStates | None = None
        if source.adds_states and teacher is not None:
            self.added_states = AddedStates(
                source, dataset, teacher, state, seeds, self.sampler, make_sampler
            )

    def __call__(self) -> Tensor:
        """Take the next step and return the loss of every seed before it."""
        state = self.state
        if self.added_states is not None:
            self.added_states.update()
        problem = OuterProblem(
            self.objective,
            self.sampler,
            state.generators[BATCH_STREAM],
            state.generators[POLICY_STREAM],
            state.generators[NOISE_STREAM],
            *self.sizes,
            state.step,
            self.dtype,
            self.device,
            state.carried,
        )
        gradient = self.solvers.at(state.step).step(problem, state.states, state.actions)
        gradients = [gradient.states, gradient.actions]
        state.optimizer.update(state.step, [state.states, state.actions], gradients)
        return gradient.loss
