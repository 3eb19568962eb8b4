"""The base class of solvers, which compute the outer steps of a distillation.

A solver gets the stacked synsets of all seeds and returns a gradient in their states and actions,
which the outer optimizer follows. An :class:`OuterProblem` provides batches, students and random
numbers, each from the generators of the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES, insufficient_memory
from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import Batch, Objective
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.device import to_device
from obdbench.policies.networks import Architecture, Params, get_architecture, with_width
from obdbench.policies.optimizers import get_optimizer
from obdbench.registry import solvers


@dataclass(frozen=True)
class ProblemSize:
    """What determines the memory of an outer step, besides the settings."""

    seeds: int
    observation_size: int
    action_size: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"


@dataclass(frozen=True)
class OuterProblem:
    """What a solver sees of a distillation at outer step ``step``.

    Batches, students and noise have separate generators, one per seed. ``carried`` holds the
    tensors that the solver carries from one step to the next, which snapshots contain: of the shape
    of the stacked states under names ending in ``.x``, of the actions under names ending in ``.a``.
    """

    objective: Objective
    sampler: BatchSampler
    batch_generators: list[torch.Generator]
    student_generators: list[torch.Generator]
    noise_generators: list[torch.Generator]
    observation_size: int
    action_size: int
    step: int
    dtype: torch.dtype
    device: str
    carried: dict[str, Tensor] = field(default_factory=dict)

    def draw_batch(self, size: int) -> Batch:
        """Draw ``size`` states per seed with the objective's columns."""
        return self.sampler.draw(size, self.batch_generators)

    def draw_students(self, architecture: Architecture, per_seed: int = 1) -> Params:
        """Draw untrained students; those of a seed are adjacent in the stack."""
        return architecture.init(
            [generator for generator in self.student_generators for _ in range(per_seed)],
            self.observation_size,
            self.action_size,
            dtype=self.dtype,
            device=self.device,
        )

    def draw_normal(self, *shape: int, per_seed: int = 1) -> Tensor:
        """Draw standard normal numbers of shape (seeds · per_seed, …)."""
        numbers = [
            torch.randn(*shape, generator=generator)
            for generator in self.noise_generators
            for _ in range(per_seed)
        ]
        return to_device(torch.stack(numbers), self.device, self.dtype)


class Solver:
    """Base class. A solver is created once per distillation, from its settings.

    ``default_settings`` replace those of the preset where a solver is selected by name and the
    settings are not given. ``memory`` is the limit in bytes for one step.
    """

    name: ClassVar[str] = ""
    default_settings: ClassVar[dict[str, Any]] = {}
    required_settings: ClassVar[dict[str, Any]] = {}  # the only values that it supports
    needs_squared_distance: ClassVar[bool] = False  # as the objective
    uses_infinite_width: ClassVar[bool] = False  # its steps contain the limit of a ReLU MLP
    relative_cost: ClassVar[float] = 1.0  # of a step, relative to one of the solver 'full'

    def __init__(self, settings: DistillSettings, memory: int = DEFAULT_MEMORY_BYTES) -> None:
        self.settings, self.memory = settings, memory
        for name, value in self.required_settings.items():
            if getattr(settings, name) != value:
                raise InvalidSettingError(
                    f"The solver {self.name!r} does not support {name} "
                    f"{getattr(settings, name)!r}.",
                    f"Set {name}={value}.",
                )

    def step(self, problem: OuterProblem, states: Tensor, actions: Tensor) -> MetaGradient:
        """Return the loss of every seed and its gradients in the stacked synsets.

        A solver that computes labels directly writes them to ``actions`` and returns a gradient of
        zeros for them.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement step")

    @property
    def cloning(self) -> CloningConfig:
        """The student of the settings and how it is cloned."""
        settings = self.settings
        return CloningConfig(
            with_width(get_architecture(settings.architecture), settings.width),
            get_optimizer(settings.inner_optimizer),
            settings.inner_lr,
            settings.inner_steps,
        )

    def required_bytes(self, size: ProblemSize) -> int:
        """Return the approximate memory of a step; zero if it is not known.

        Raises :class:`~obdbench.errors.InvalidSettingError` if it exceeds the limit.
        """
        return 0

    def activation_bytes(self, students: int, rows: int, dtype: torch.dtype) -> int:
        """Return the size of the hidden layers of ``students`` on ``rows`` states and its gradient.

        Raises :class:`~obdbench.errors.InvalidSettingError` if it exceeds the limit.
        """
        architecture = self.cloning.architecture
        depth = getattr(architecture, "depth", 4)  # of a user's architecture, it is an estimate
        width = getattr(architecture, "width", 256)
        required = 2 * dtype.itemsize * students * rows * depth * width
        if required > self.memory:
            contents = f"the activations of {students} students on {rows} states"
            raise insufficient_memory(self.memory, required, contents, "lower draws or batch")
        return int(required)


def make_solver(name: str, settings: DistillSettings, memory: int = DEFAULT_MEMORY_BYTES) -> Solver:
    """Create a solver by name."""
    solver: Solver = solvers.create(name, {"settings": settings, "memory": memory})
    return solver


def mean_over_draws(gradient: MetaGradient, draws: int) -> MetaGradient:
    """Average the losses and gradients of the ``draws`` students of each seed."""
    means = (tensor.reshape(-1, draws, *tensor.shape[1:]).mean(1) for tensor in gradient)
    return MetaGradient(*means)
