"""The meta-gradient of students of infinite width (:mod:`obdbench.distillation.infinite_width`).

With ``kernel_share`` below one, its steps precede those of another solver; the preset ``fast``
takes the exact meta-gradient in its last steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from obdbench.distillation.infinite_width.student import InfiniteWidthStudent
from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.solvers.solver import OuterProblem, ProblemSize, Solver
from obdbench.objectives.objective import Batch
from obdbench.policies.networks import MLP4, Architecture, get_architecture


class InfiniteWidth(Solver):
    """Meta-gradient of students of infinite width, whose cloning needs no network."""

    name: ClassVar[str] = "infinite-width"
    default_settings: ClassVar[dict[str, Any]] = {"kernel_share": 1.0}
    uses_infinite_width: ClassVar[bool] = True
    relative_cost: ClassVar[float] = 0.04

    def __init__(self, settings: DistillSettings, memory: int = DEFAULT_MEMORY_BYTES) -> None:
        super().__init__(settings, memory)
        architecture = get_architecture(settings.architecture)
        self.architecture = architecture if isinstance(architecture, Architecture) else MLP4
        self.student = InfiniteWidthStudent(
            self.architecture.depth, settings.inner_lr, settings.inner_steps, memory
        )

    def step(self, problem: OuterProblem, states: Tensor, actions: Tensor) -> MetaGradient:
        """Differentiate the objective on one batch of ``kernel_batch`` states per seed."""
        batch = problem.draw_batch(self.settings.kernel_batch)
        return self.step_on(problem, batch, states, actions)

    def step_on(
        self, problem: OuterProblem, batch: Batch, states: Tensor, actions: Tensor
    ) -> MetaGradient:
        """Differentiate the objective on this batch."""
        return self.student.meta_gradient(
            states,
            actions,
            batch.states.to(problem.dtype),
            lambda chosen: problem.objective.loss(chosen, batch),
            self._draw_initial_output(problem) if self.settings.kernel_start == "drawn" else None,
        )

    def _draw_initial_output(self, problem: OuterProblem) -> Callable[[Tensor], Tensor]:
        """Draw one untrained student per seed and return its output as a function of states."""
        params = problem.draw_students(self.architecture)
        return lambda states: self.architecture.apply(params, states)[0]

    def required_bytes(self, size: ProblemSize) -> int:
        """Return the size of the kernel matrices and of the recursion."""
        return self.student.required_bytes(
            size.seeds,
            self.settings.pairs,
            self.settings.kernel_batch,
            size.action_size,
            dtype=size.dtype,
            on_cpu=torch.device(size.device).type == "cpu",
        )
