r"""The meta-gradient: how the objective, after cloning on the synset, changes with the synset.

.. math:: \nabla_{x,a}\; H(\theta_T(x, a)), \qquad
          \theta_{t+1} = \mathrm{opt}\big(\theta_t, \nabla_\theta \ell(\theta_t; x, a)\big)

Two ways to the same gradient. :class:`~obdbench.distillation.meta_gradient.reverse_sweep.ReverseSweep` is the fast one, for
plain MLPs under SGD. :func:`general` takes any architecture and any inner optimizer: it keeps the
trajectory, or within less memory as much of it as fits (:mod:`obdbench.distillation.meta_gradient.trajectory`), and
pulls the derivative back through one inner step at a time with ``torch.func.vjp``, which needs the
memory of a single step's graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.grouped_reverse_sweep import BatchedReverseSweep
from obdbench.distillation.meta_gradient.outer_gradient import OuterLoss, outer_gradient
from obdbench.distillation.meta_gradient.reverse_sweep import ReverseSweep, slot_size, slots_within
from obdbench.distillation.meta_gradient.trajectory import (
    TrainingState,
    Trajectory,
    predict_state_bytes,
    segment_length,
    state_bytes,
)
from obdbench.policies.cloning import CloningConfig, clone_step
from obdbench.policies.networks import Architecture, Params
from obdbench.policies.optimizers import OptimizerState

MEMORY = 2 * 1024**3


@dataclass(frozen=True)
class MetaGradient:
    """The objective of each policy of the stack, and its derivatives in its synset."""

    loss: Tensor
    states: Tensor
    actions: Tensor


def general(
    how: CloningConfig,
    params: Params,
    x: Tensor,
    a: Tensor,
    outer: OuterLoss,
    *,
    noise: Tensor | None = None,
    reverse_noise: Tensor | None = None,
    window: int | None = None,
    memory: int = MEMORY,
) -> MetaGradient:
    """Any architecture, any inner optimizer; at most ``memory`` bytes of trajectory."""
    stop = how.steps - min(window or how.steps, how.steps)

    def advance(step: int, held: TrainingState) -> TrainingState:
        return clone_step(how, *held, x, a, None if noise is None else noise[step])

    initial = (params, how.optimizer.init(params))
    length = segment_length(how.steps - stop, state_bytes(initial), memory)
    trajectory = Trajectory(advance, stop, how.steps, length)
    params, state = trajectory.forth(initial)
    losses, gradient = outer_gradient(outer, params)
    moments = {
        name: {key: torch.zeros_like(value) for key, value in group.items()}
        for name, group in state.moments.items()
    }
    gx, ga = torch.zeros_like(x), torch.zeros_like(a)
    redrawn = noise if reverse_noise is None else reverse_noise
    for step, (before, state) in trajectory.back():
        epsilon = None if redrawn is None else redrawn[step]

        def one(
            p: Params, m: dict[str, Params], x: Tensor, a: Tensor, at: Any = (state.count, epsilon)
        ) -> tuple[Params, dict[str, Params]]:
            after, new = clone_step(how, p, OptimizerState(at[0], m), x, a, at[1])
            return after, new.moments

        _, pull = torch.func.vjp(one, before, state.moments, x, a)  # type: ignore[misc]
        gradient, moments, dx, da = pull((gradient, moments))
        gx, ga = gx + dx, ga + da
    return MetaGradient(losses, gx, ga)


@dataclass
class MetaGradientSolver:
    """Chooses the way: the sweep for plain MLPs under SGD, the general path for the rest."""

    how: CloningConfig
    memory: int = MEMORY
    fast: bool = True
    _sweeps: BatchedReverseSweep | None = field(default=None, init=False)
    _key: tuple[Any, ...] = field(default=(), init=False)

    @property
    def sweepable(self) -> bool:
        """Whether the hand-derived sweep covers this student and optimizer."""
        architecture = self.how.architecture
        return (
            self.fast
            and type(architecture) is Architecture
            and not architecture.residual
            and architecture.depth > 1
            and self.how.optimizer.name == "sgd"
        )

    def __call__(
        self,
        params: Params,
        x: Tensor,
        a: Tensor,
        outer: OuterLoss,
        *,
        noise: Tensor | None = None,
        reverse_noise: Tensor | None = None,
        window: int | None = None,
        steps: int | None = None,
    ) -> MetaGradient:
        """The meta-gradient of a stack; ``steps`` shortens the inner loop (random truncation)."""
        if not self.sweepable:
            how = self.how if steps is None else replace(self.how, steps=steps)
            return general(
                how,
                params,
                x,
                a,
                outer,
                noise=noise,
                reverse_noise=reverse_noise,
                window=window,
                memory=self.memory,
            )
        sweep = self._fitting(x, a, noise is not None, window)
        with torch.no_grad():
            learned = sweep.learn(params, x, a, noise, steps)
        losses, gradient = sweep.derivative(outer, learned)
        with torch.no_grad():
            gx, ga = sweep.back(gradient, reverse_noise)
        return MetaGradient(losses, gx, ga)

    def required_bytes(
        self,
        stack: int,
        pairs: int,
        observation_size: int,
        action_size: int,
        *,
        sampled: bool,
        window: int | None,
        dtype: torch.dtype,
    ) -> int:
        """Bytes that the trajectory of a stack takes; a memory that is too small is refused."""
        kept = min(window or self.how.steps, self.how.steps)
        if not self.sweepable:
            one = predict_state_bytes(
                self.how, stack, observation_size, action_size, dtype.itemsize
            )
            length = segment_length(kept, one, self.memory)
            return one * (length + -(-kept // length) - 1)
        slot = slot_size(
            self.how.architecture, stack, pairs, observation_size, action_size, sampled, dtype
        )
        return slot * slots_within(self.memory, 1.0, slot, kept, self.how.steps)

    def _fitting(
        self, x: Tensor, a: Tensor, sampled: bool, window: int | None
    ) -> BatchedReverseSweep:
        """The buffers and sweeps for these shapes, made anew only when a shape changes."""
        threads = torch.get_num_threads() if x.device.type == "cpu" else 1
        key = (*x.shape, a.shape[2], sampled, window, x.dtype, x.device, threads)
        if self._sweeps is None or self._key != key:
            self._sweeps = None  # before the new buffers are made
            stack, pairs, observation_size = x.shape
            sweep = partial(
                ReverseSweep,
                self.how.architecture,
                pairs=pairs,
                observation_size=observation_size,
                action_size=a.shape[2],
                lr=self.how.lr,
                steps=self.how.steps,
                window=window,
                sampled=sampled,
                dtype=x.dtype,
                device=x.device,
            )
            self._sweeps = BatchedReverseSweep(sweep, stack, self.memory, threads=threads)
            self._key = key
        return self._sweeps
