"""The two ways of taking an outer step that settings ask for, and the memory each takes."""

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
    """Exact steps by ``solver``; by ``limit`` those at infinite width, of a student like ``wide``.

    Both within ``memory`` bytes, which a step of either kind may use in turn.
    """

    settings: DistillSettings
    memory: int

    def __post_init__(self) -> None:
        settings = self.settings
        scored = get_architecture(settings.architecture)
        how = CloningConfig(
            with_width(scored, settings.width),
            get_optimizer(settings.inner_optimizer),
            settings.inner_lr,
            settings.inner_steps,
        )
        self.solver = MetaGradientSolver(how, memory=self.memory)
        self.wide = scored if isinstance(scored, Architecture) else MLP4
        self.limit = InfiniteWidthSolver(self.wide.depth, how.lr, how.steps, self.memory)

    def required_bytes(
        self,
        seeds: int,
        observation_size: int,
        action_size: int,
        *,
        step: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> int:
        """Bytes of the larger kind of step from ``step`` on; too small a memory is refused."""
        settings, found = self.settings, [0]
        last = settings.evaluation_steps[-1]
        if step < min(settings.kernel_steps, last):
            cpu = torch.device(device).type == "cpu"
            sizes = (settings.pairs, settings.kernel_batch, action_size)
            found.append(self.limit.required_bytes(seeds, *sizes, dtype=dtype, on_cpu=cpu))
        if max(step, settings.kernel_steps) < last:
            window = None if settings.solver == "full" else settings.window
            found.append(
                self.solver.required_bytes(
                    seeds * settings.draws,
                    settings.pairs,
                    observation_size,
                    action_size,
                    sampled=settings.noise != "none",
                    window=window,
                    dtype=dtype,
                )
            )
        return max(found)
