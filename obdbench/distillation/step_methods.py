"""The two methods of taking an outer step, and the memory that they need."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from obdbench.distillation.infinite_width.solver import InfiniteWidthSolver
from obdbench.distillation.meta_gradient.solver import MetaGradientSolver
from obdbench.distillation.settings import DistillSettings
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import MLP4, Architecture, get_architecture, with_width
from obdbench.policies.optimizers import get_optimizer


@dataclass
class StepMethods:
    """The solver of exact outer steps and the solver of infinite-width outer steps.

    ``memory`` is the limit in bytes for a step of either method. ``wide_architecture`` is the
    student whose infinite-width limit is taken.
    """

    settings: DistillSettings
    memory: int

    def __post_init__(self) -> None:
        settings = self.settings
        architecture = get_architecture(settings.architecture)
        self.cloning = CloningConfig(
            with_width(architecture, settings.width),
            get_optimizer(settings.inner_optimizer),
            settings.inner_lr,
            settings.inner_steps,
        )
        self.exact = MetaGradientSolver(self.cloning, memory=self.memory)
        self.wide_architecture = architecture if isinstance(architecture, Architecture) else MLP4
        self.infinite_width = InfiniteWidthSolver(
            self.wide_architecture.depth, self.cloning.lr, self.cloning.steps, self.memory
        )

    def required_bytes(
        self,
        seeds: int,
        observation_size: int,
        action_size: int,
        *,
        first_step: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> int:
        """Return the memory of the largest step from ``first_step`` on.

        Raises :class:`~obdbench.errors.InvalidSettingError` if it exceeds the limit.
        """
        settings, required = self.settings, 0
        last_step = settings.evaluation_steps[-1]
        if first_step < min(settings.kernel_steps, last_step):
            required = self.infinite_width.required_bytes(
                seeds,
                settings.pairs,
                settings.kernel_batch,
                action_size,
                dtype=dtype,
                on_cpu=torch.device(device).type == "cpu",
            )
        if max(first_step, settings.kernel_steps) < last_step:
            exact = self.exact.required_bytes(
                seeds * settings.draws,
                settings.pairs,
                observation_size,
                action_size,
                sampled=settings.noise != "none",
                window=None if settings.solver == "full" else settings.window,
                dtype=dtype,
            )
            required = max(required, exact)
        return required
