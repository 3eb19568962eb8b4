r"""The exact meta-gradient, and its truncations.

.. math:: \nabla_{x,a}\; \mathbb{E}_{\theta_0}\, H(\pi_{\theta_T}), \qquad
          \theta_{t+1} = \mathrm{opt}\big(\theta_t, \nabla_\theta \ell(\theta_t; x, a)\big)

Lei, Zhang and Tao, 2024, arXiv 2410.22728, take one freshly drawn student per outer step and
differentiate through all of its inner steps, as here; :mod:`obdbench.distillation.meta_gradient`
describes the computation. ``truncated`` differentiates the last ``window`` inner steps.
``random-truncated`` also ends the inner loop after a random number of steps (RaT-BPTT, Feng et al.,
2023, arXiv 2311.07025), which is the same for all seeds of an outer step.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from obdbench.distillation.batch_sampler import repeat_batch
from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.meta_gradient.outer_gradient import OuterLossOnStates
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.distillation.random_streams import TRUNCATION_STREAM
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.solvers.solver import (
    OuterProblem,
    ProblemSize,
    Solver,
    mean_over_draws,
)
from obdbench.objectives.objective import Batch


class Exact(Solver):
    """Meta-gradient through all inner steps of students with random weights."""

    name: ClassVar[str] = "full"

    def __init__(self, settings: DistillSettings, memory: int = DEFAULT_MEMORY_BYTES) -> None:
        super().__init__(settings, memory)
        self.meta_gradient = UnrolledMetaGradient(
            self.cloning, memory=memory, precision=settings.precision
        )

    def step(self, problem: OuterProblem, states: Tensor, actions: Tensor) -> MetaGradient:
        """Average the meta-gradients of ``draws`` students per seed on one batch."""
        return self.step_on(problem, problem.draw_batch(self.settings.batch), states, actions)

    def step_on(
        self, problem: OuterProblem, batch: Batch, states: Tensor, actions: Tensor
    ) -> MetaGradient:
        """Average the meta-gradients of ``draws`` students per seed on this batch."""
        settings, draws = self.settings, self.settings.draws
        architecture = self.meta_gradient.cloning.architecture
        params = problem.draw_students(architecture, draws)
        batch = repeat_batch(batch, draws)
        noise = self._draw_noise(problem) if settings.noise != "none" else None
        reverse_noise = self._draw_noise(problem) if settings.noise == "published" else None
        gradient = self.meta_gradient(
            params,
            states.repeat_interleave(draws, 0) if draws > 1 else states,
            actions.repeat_interleave(draws, 0) if draws > 1 else actions,
            OuterLossOnStates(
                architecture.act,
                batch.states.to(problem.dtype),
                lambda chosen: problem.objective.loss(chosen, batch),
            ),
            noise=noise,
            reverse_noise=reverse_noise,
            **self.truncation(problem.step),
        )
        return mean_over_draws(gradient, draws)

    def truncation(self, step: int) -> dict[str, int]:
        """Return which inner steps are run and differentiated in outer step ``step``: all."""
        return {}

    def _draw_noise(self, problem: OuterProblem) -> Tensor:
        """Draw the noise of the students' actions for every inner step: (steps, stack, …)."""
        shape = (self.settings.inner_steps, self.settings.pairs, problem.action_size)
        noise = problem.draw_normal(*shape, per_seed=self.settings.draws)
        return noise.transpose(0, 1).contiguous()

    def required_bytes(self, size: ProblemSize) -> int:
        """Return the size of the trajectories of all students."""
        settings = self.settings
        return self.meta_gradient.required_bytes(
            size.seeds * settings.draws,
            settings.pairs,
            size.observation_size,
            size.action_size,
            sampled=settings.noise != "none",
            window=settings.window,
            dtype=size.dtype,
            device=size.device,
        )


class Truncated(Exact):
    """Meta-gradient through the last 'window' inner steps."""

    name: ClassVar[str] = "truncated"

    def truncation(self, step: int) -> dict[str, int]:
        """The last ``window`` inner steps are differentiated."""
        assert self.settings.window is not None
        return {"window": self.settings.window}


class RandomTruncated(Exact):
    """Meta-gradient through the last 'window' steps of inner loops of random length."""

    name: ClassVar[str] = "random-truncated"

    def truncation(self, step: int) -> dict[str, int]:
        """The inner loop ends after a random number of steps, at least ``window``."""
        assert self.settings.window is not None
        rng = np.random.default_rng([step, TRUNCATION_STREAM])
        inner_steps = rng.integers(self.settings.window, self.settings.inner_steps + 1)
        return {"window": self.settings.window, "steps": int(inner_steps)}
