"""Outer steps of given sizes for the benchmarks."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.meta_gradient.outer_gradient import OuterLossOnStates
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Architecture, get_architecture, seeded_generator
from obdbench.policies.optimizers import get_optimizer
from obdbench.tasks.task import TASKS

TASK_SIZES = {name: (TASKS[name].observation_size, TASKS[name].action_size) for name in TASKS}


@dataclass(frozen=True)
class BenchmarkSetting:
    """The sizes of one outer step; the defaults are those of the paper."""

    task: str = "hopper"
    seeds: int = 1
    pairs: int = 256
    steps: int = 100
    states: int = 2560
    width: int = 256

    @property
    def architecture(self) -> Architecture:
        """The student of the paper at this width."""
        return dataclasses.replace(get_architecture("mlp4"), width=self.width)

    def replace(self, **changes: int | str) -> BenchmarkSetting:
        """Return the setting with some sizes changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @property
    def gigaflop(self) -> float:
        """Floating-point operations of nine matrix products per layer and inner step, in 1e9."""
        observation, action = TASK_SIZES[self.task]
        layers = self.architecture.shapes(observation, action)
        weights = sum(rows * columns for rows, columns in layers)
        return 9 * 2 * self.pairs * weights * self.steps * self.seeds / 1e9


class BenchmarkStep:
    """An exact outer step on random data that can be called repeatedly."""

    def __init__(
        self,
        setting: BenchmarkSetting,
        *,
        use_reverse_sweep: bool = True,
        window: int | None = None,
        dtype: torch.dtype = torch.float32,
        precision: str = "float32",
    ) -> None:
        observation, action = TASK_SIZES[setting.task]
        generator = torch.Generator().manual_seed(0)
        stack = (setting.seeds, setting.pairs)
        x = torch.randn(*stack, observation, generator=generator)
        a = torch.rand(*stack, action, generator=generator) * 1.8 - 0.9
        states = torch.randn(setting.seeds, setting.states, observation, generator=generator)
        target = torch.rand(setting.seeds, setting.states, action, generator=generator)
        self.x, self.a, self.states, self.target = (t.to(dtype) for t in (x, a, states, target))
        self.cloning = CloningConfig(setting.architecture, get_optimizer("sgd"), 0.1, setting.steps)
        self.solver = UnrolledMetaGradient(
            self.cloning, precision=precision, use_reverse_sweep=use_reverse_sweep
        )
        self.window = window
        self.generators = [seeded_generator(seed, 1) for seed in range(setting.seeds)]
        self.sizes = (observation, action)

    def loss(self, actions: Tensor) -> Tensor:
        return (actions - self.target).square().mean((-1, -2))

    def __call__(self) -> MetaGradient:
        params = self.cloning.architecture.init(self.generators, *self.sizes, dtype=self.x.dtype)
        outer = OuterLossOnStates(self.cloning.architecture.act, self.states, self.loss)
        return self.solver(params, self.x, self.a, outer, window=self.window)


def use_all_cores() -> int:
    """Let torch use every core that this process may run on, and return their number."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    torch.set_num_threads(cores)
    return cores
