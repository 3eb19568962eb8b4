r"""The meta-gradient for any student and any inner optimizer.

The derivatives (g, m) in the parameters and moments after inner step t are carried back through one
step at a time by its vector-Jacobian product,

.. math:: (g_t, m_t, \Delta x, \Delta a) = (g_{t+1}, m_{t+1})^\top\,
          \frac{\partial\,\mathrm{opt}(\theta_t, \mathrm{state}_t; x, a)}
               {\partial\,(\theta_t, \mathrm{state}_t, x, a)},

with ``torch.func.vjp``, which needs the memory of one step's graph. The training states before the
steps come from :mod:`obdbench.distillation.meta_gradient.trajectory`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.meta_gradient.outer_gradient import OuterLoss, outer_gradient
from obdbench.distillation.meta_gradient.trajectory import (
    TrainingState,
    Trajectory,
    measure_state_bytes,
    segment_length,
)
from obdbench.policies.cloning import CloningConfig, clone_step
from obdbench.policies.networks import Params
from obdbench.policies.optimizers import OptimizerState


class MetaGradient(NamedTuple):
    """The objective of each policy of a stack, and its gradients in the policy's synset."""

    loss: Tensor
    states: Tensor
    actions: Tensor


def general_meta_gradient(
    cloning: CloningConfig,
    params: Params,
    x: Tensor,
    a: Tensor,
    outer_loss: OuterLoss,
    *,
    noise: Tensor | None = None,
    reverse_noise: Tensor | None = None,
    window: int | None = None,
    memory: int = DEFAULT_MEMORY_BYTES,
) -> MetaGradient:
    """Return the meta-gradient, keeping at most ``memory`` bytes of the trajectory.

    With ``window`` only that many last inner steps are differentiated. ``reverse_noise`` replaces
    the noise in the reverse pass.
    """
    first = cloning.steps - min(window or cloning.steps, cloning.steps)

    def advance(step: int, training_state: TrainingState) -> TrainingState:
        return clone_step(cloning, *training_state, x, a, None if noise is None else noise[step])

    initial = (params, cloning.optimizer.init(params))
    length = segment_length(cloning.steps - first, measure_state_bytes(initial), memory)
    trajectory = Trajectory(advance, first, cloning.steps, length)
    params, state = trajectory.run_forward(initial)
    losses, gradient = outer_gradient(outer_loss, params)
    moments = {
        name: {key: torch.zeros_like(value) for key, value in group.items()}
        for name, group in state.moments.items()
    }
    gx, ga = torch.zeros_like(x), torch.zeros_like(a)
    if reverse_noise is None:
        reverse_noise = noise
    for step, (before, state) in trajectory.iterate_backward():
        step_noise = None if reverse_noise is None else reverse_noise[step]

        def inner_step(
            p: Params,
            m: dict[str, Params],
            x: Tensor,
            a: Tensor,
            fixed: Any = (state.count, step_noise),
        ) -> tuple[Params, dict[str, Params]]:
            step_count, step_noise = fixed
            after, new_state = clone_step(
                cloning, p, OptimizerState(step_count, m), x, a, step_noise
            )
            return after, new_state.moments

        _, vjp = torch.func.vjp(inner_step, before, state.moments, x, a)  # type: ignore[misc]
        gradient, moments, dx, da = vjp((gradient, moments))
        gx, ga = gx + dx, ga + da
    return MetaGradient(losses, gx, ga)
