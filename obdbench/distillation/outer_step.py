"""One outer step of all seeds: draw policies and a batch, differentiate, update the synsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.added_states import AddedStates
from obdbench.distillation.batch_sampler import BatchSampler, repeat_batch
from obdbench.distillation.meta_gradient.outer_gradient import OuterLossOnStates
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.snapshot import (
    BATCH_STREAM,
    NOISE_STREAM,
    POLICY_STREAM,
    DistillationState,
)
from obdbench.distillation.state_sources.state_source import StateSource, load_fixed_dataset
from obdbench.distillation.step_methods import StepMethods
from obdbench.objectives.objective import Objective
from obdbench.policies.device import to_device
from obdbench.teachers.teacher import Teacher

PREPARE_STREAM, TRUNCATION_STREAM = 4, 5


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
        self.objective, self.settings, self.state = objective, settings, state
        self.device, self.dtype = device, dtype
        self.sizes = (source.dataset.observation_size, source.dataset.action_size)
        self.methods = StepMethods(settings, memory)
        self.methods.required_bytes(
            len(state.states), *self.sizes, first_step=state.step, dtype=dtype, device=device
        )

        def make_sampler(dataset: Dataset, rng: np.random.Generator) -> BatchSampler:
            columns = {
                name: column.to(dtype) if column.is_floating_point() else column
                for name, column in objective.prepare(dataset, teacher, rng).items()
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
        generators, draws = state.generators, settings.draws
        self.policy_generators = [g for g in generators[POLICY_STREAM] for _ in range(draws)]
        self.noise_generators = [g for g in generators[NOISE_STREAM] for _ in range(draws)]

    def __call__(self) -> Tensor:
        """Take the next step and return the objective of every seed before it."""
        state = self.state
        if self.added_states is not None:
            self.added_states.update()
        step = self._infinite_width if state.step < self.settings.kernel_steps else self._exact
        losses, *gradients = step()
        state.optimizer.update(state.step, [state.states, state.actions], gradients)
        return losses

    def _infinite_width(self) -> tuple[Tensor, Tensor, Tensor]:
        state, settings, methods = self.state, self.settings, self.methods
        batch = self.sampler.draw(settings.kernel_batch, state.generators[BATCH_STREAM])
        gradient = methods.infinite_width(
            state.states,
            state.actions,
            batch.states.to(self.dtype),
            lambda actions: self.objective.loss(actions, batch),
            self._draw_initial_output() if settings.kernel_start == "drawn" else None,
        )
        return gradient.loss, gradient.states, gradient.actions

    def _draw_initial_output(self) -> Callable[[Tensor], Tensor]:
        """Draw one untrained student per seed and return its output as a function of states."""
        architecture = self.methods.wide_architecture
        params = architecture.init(
            self.state.generators[POLICY_STREAM], *self.sizes, dtype=self.dtype, device=self.device
        )
        return lambda states: architecture.apply(params, states)[0]

    def _exact(self) -> tuple[Tensor, Tensor, Tensor]:
        state, settings = self.state, self.settings
        draws, architecture = settings.draws, self.methods.cloning.architecture
        params = architecture.init(
            self.policy_generators, *self.sizes, dtype=self.dtype, device=self.device
        )
        batch = self.sampler.draw(settings.batch, state.generators[BATCH_STREAM])
        batch = repeat_batch(batch, draws)
        noise = self._draw_noise() if settings.noise != "none" else None
        reverse_noise = self._draw_noise() if settings.noise == "published" else None
        gradient = self.methods.exact(
            params,
            state.states.repeat_interleave(draws, 0) if draws > 1 else state.states,
            state.actions.repeat_interleave(draws, 0) if draws > 1 else state.actions,
            OuterLossOnStates(
                architecture.act,
                batch.states.to(self.dtype),
                lambda actions: self.objective.loss(actions, batch),
            ),
            noise=noise,
            reverse_noise=reverse_noise,
            **inner_truncation(settings, state.step),
        )
        per_seed = (len(state.states), draws)
        states, actions = (
            g.reshape(*per_seed, *g.shape[1:]).mean(1) for g in (gradient.states, gradient.actions)
        )
        return gradient.loss.reshape(per_seed).mean(1), states, actions

    def _draw_noise(self) -> Tensor:
        """Draw the noise of the students' actions for every inner step and policy."""
        shape = (self.settings.inner_steps, self.settings.pairs, self.sizes[1])
        noise = [torch.randn(*shape, generator=g) for g in self.noise_generators]
        return to_device(torch.stack(noise, dim=1), self.device, self.dtype)


def inner_truncation(settings: DistillSettings, step: int) -> dict[str, int]:
    """Return which inner steps the exact solver runs and differentiates in outer step ``step``.

    ``truncated`` differentiates the last ``window`` inner steps. ``random-truncated`` (RaT-BPTT,
    Feng et al., 2023, arXiv 2311.07025) also ends the inner loop after a random number of steps,
    which is the same for all seeds of an outer step.
    """
    if settings.solver == "full" or settings.window is None:
        return {}
    if settings.solver == "truncated":
        return {"window": settings.window}
    rng = np.random.default_rng([step, TRUNCATION_STREAM])
    inner_steps = rng.integers(settings.window, settings.inner_steps + 1)
    return {"window": settings.window, "steps": int(inner_steps)}
