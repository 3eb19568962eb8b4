r"""The meta-gradient: how the objective, after cloning on the synset, changes with the synset.

.. math:: \nabla_{x,a}\; H(\theta_T(x, a)), \qquad
          \theta_{t+1} = \mathrm{opt}\big(\theta_t, \nabla_\theta \ell(\theta_t; x, a)\big)

Two ways to the same gradient. :class:`~obdbench.distill.sweep.ReverseSweep` is the fast one, for
plain MLPs under SGD. :func:`general` takes any architecture and any inner optimizer: it keeps the
trajectory and pulls the derivative back through one inner step at a time with ``torch.func.vjp``,
which needs the memory of a single step's graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from obdbench.distill.derivative import OuterLoss, derivative
from obdbench.distill.stacked import StackedSweep
from obdbench.distill.sweep import ReverseSweep
from obdbench.policies.cloning import Cloning, clone_step
from obdbench.policies.networks import Architecture, Params
from obdbench.policies.optimizers import State


@dataclass(frozen=True)
class MetaGradient:
    """The objective of each policy of the stack, and its derivatives in its synset."""

    loss: Tensor
    states: Tensor
    actions: Tensor


def general(
    how: Cloning,
    params: Params,
    x: Tensor,
    a: Tensor,
    outer: OuterLoss,
    *,
    noise: Tensor | None = None,
    reverse_noise: Tensor | None = None,
    window: int | None = None,
) -> MetaGradient:
    """Any architecture, any inner optimizer."""
    state = how.optimizer.init(params)
    kept: list[tuple[Params, State]] = []
    stop = how.steps - (window or how.steps)
    for step in range(how.steps):
        if step >= stop:
            kept.append((params, state))
        params, state = clone_step(how, params, state, x, a, None if noise is None else noise[step])
    losses, gradient = derivative(outer, params)
    moments = {
        name: {key: torch.zeros_like(value) for key, value in group.items()}
        for name, group in state.moments.items()
    }
    gx, ga = torch.zeros_like(x), torch.zeros_like(a)
    redrawn = noise if reverse_noise is None else reverse_noise
    for step in reversed(range(stop, how.steps)):
        before, state = kept.pop()
        epsilon = None if redrawn is None else redrawn[step]

        def one(
            p: Params, m: dict[str, Params], x: Tensor, a: Tensor, at: Any = (state.count, epsilon)
        ) -> tuple[Params, dict[str, Params]]:
            after, new = clone_step(how, p, State(at[0], m), x, a, at[1])
            return after, new.moments

        _, pull = torch.func.vjp(one, before, state.moments, x, a)  # type: ignore[misc]
        gradient, moments, dx, da = pull((gradient, moments))
        gx, ga = gx + dx, ga + da
    return MetaGradient(losses, gx, ga)


@dataclass
class Solver:
    """Chooses the way: the sweep for plain MLPs under SGD, the general path for the rest."""

    how: Cloning
    memory: int = 2 * 1024**3
    fast: bool = True
    _sweeps: StackedSweep | None = field(default=None, init=False)
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
                how, params, x, a, outer, noise=noise, reverse_noise=reverse_noise, window=window
            )
        sweep = self._fitting(x, a, noise is not None, window)
        with torch.no_grad():
            learned = sweep.learn(params, x, a, noise, steps)
        losses, gradient = sweep.derivative(outer, learned)
        with torch.no_grad():
            gx, ga = sweep.back(gradient, reverse_noise)
        return MetaGradient(losses, gx, ga)

    def _fitting(self, x: Tensor, a: Tensor, sampled: bool, window: int | None) -> StackedSweep:
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
            self._sweeps = StackedSweep(sweep, stack, self.memory, threads=threads)
            self._key = key
        return self._sweeps
