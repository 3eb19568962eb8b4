r"""The meta-gradient: the gradient of the objective after cloning with respect to the synset.

.. math:: \nabla_{x,a}\; H(\theta_T(x, a)), \qquad
          \theta_{t+1} = \mathrm{opt}\big(\theta_t, \nabla_\theta \ell(\theta_t; x, a)\big)

Two methods compute the same gradient: the reverse sweep for plain MLPs under SGD
(:mod:`obdbench.distillation.meta_gradient.reverse_sweep`), which is the faster one, and the general
method for all other students and inner optimizers
(:mod:`obdbench.distillation.meta_gradient.general`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.meta_gradient.bfloat16_reverse_sweep import Bfloat16ReverseSweep
from obdbench.distillation.meta_gradient.general import MetaGradient, general_meta_gradient
from obdbench.distillation.meta_gradient.grouped_reverse_sweep import GroupedReverseSweep
from obdbench.distillation.meta_gradient.outer_gradient import OuterLoss
from obdbench.distillation.meta_gradient.reverse_sweep import (
    ReverseSweep,
    max_kept_steps,
    step_record_bytes,
)
from obdbench.distillation.meta_gradient.trajectory import (
    kept_states,
    predict_state_bytes,
    segment_length,
)
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Architecture, Params
from obdbench.policies.torch_settings import has_bfloat16_products, matmul_precision


@dataclass
class UnrolledMetaGradient:
    """Computes meta-gradients of stacks of students within ``memory`` bytes.

    ``precision`` is that of the factors in the reverse sweep, where the device has such products.
    ``use_reverse_sweep=False`` takes the general method for every student, which has no other
    precision than that of its inputs.
    """

    cloning: CloningConfig
    memory: int = DEFAULT_MEMORY_BYTES
    precision: str = "float32"
    use_reverse_sweep: bool = True
    reverse_sweep: GroupedReverseSweep | None = field(default=None, init=False)
    _sweep_key: tuple[Any, ...] = field(default=(), init=False)

    @property
    def reverse_sweep_applies(self) -> bool:
        """Whether the reverse sweep is derived for this student and inner optimizer."""
        architecture = self.cloning.architecture
        return (
            self.use_reverse_sweep
            and type(architecture) is Architecture
            and not architecture.residual
            and architecture.depth > 1
            and self.cloning.optimizer.name == "sgd"
        )

    def __call__(
        self,
        params: Params,
        x: Tensor,
        a: Tensor,
        outer_loss: OuterLoss,
        *,
        noise: Tensor | None = None,
        reverse_noise: Tensor | None = None,
        window: int | None = None,
        steps: int | None = None,
    ) -> MetaGradient:
        """Return the meta-gradient of a stack of students with these initial parameters.

        ``x`` and ``a`` are the stacked synsets. ``steps`` shortens the inner loop, and with
        ``window`` only that many last inner steps are differentiated.
        """
        if not self.reverse_sweep_applies:
            return general_meta_gradient(
                self.cloning if steps is None else replace(self.cloning, steps=steps),
                params,
                x,
                a,
                outer_loss,
                noise=noise,
                reverse_noise=reverse_noise,
                window=window,
                memory=self.memory,
            )
        sweep = self._sweep_for(x, a, noise is not None, window)
        with torch.no_grad():
            final_params = sweep.run_forward(params, x, a, noise, steps)
        losses, gradient = sweep.outer_gradient(outer_loss, final_params)
        # On a CPU the precision selects the sweep instead.
        precision = self.precision if x.is_cuda else "float32"
        with torch.no_grad(), matmul_precision(precision):
            gx, ga = sweep.run_backward(gradient, reverse_noise)
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
        device: torch.device | str = "cpu",
    ) -> int:
        """Return the size of a stack's trajectory, without rounding of what is kept.

        Raises :class:`~obdbench.errors.InvalidSettingError` if it exceeds the memory.
        """
        differentiated = min(window or self.cloning.steps, self.cloning.steps)
        if not self.reverse_sweep_applies:
            state_bytes = predict_state_bytes(
                self.cloning, stack, observation_size, action_size, dtype.itemsize
            )
            length = segment_length(differentiated, state_bytes, self.memory)
            return state_bytes * kept_states(differentiated, length)
        record_bytes = step_record_bytes(
            self.cloning.architecture,
            stack,
            pairs,
            observation_size,
            action_size,
            sampled,
            dtype,
            self._sweep_type(dtype, device).record_dtype,
        )
        return record_bytes * max_kept_steps(
            self.memory, 1.0, record_bytes, differentiated, self.cloning.steps
        )

    def _sweep_for(
        self, x: Tensor, a: Tensor, sampled: bool, window: int | None
    ) -> GroupedReverseSweep:
        """Return the sweep for these shapes; its buffers are allocated again if one changed."""
        threads = torch.get_num_threads() if x.device.type == "cpu" else 1
        key = (*x.shape, a.shape[2], sampled, window, x.dtype, x.device, threads)
        if self.reverse_sweep is None or self._sweep_key != key:
            self.reverse_sweep = None  # frees the old buffers first
            stack, pairs, observation_size = x.shape
            make_sweep = partial(
                self._sweep_type(x.dtype, x.device),
                self.cloning.architecture,
                pairs=pairs,
                observation_size=observation_size,
                action_size=a.shape[2],
                lr=self.cloning.lr,
                steps=self.cloning.steps,
                window=window,
                sampled=sampled,
                dtype=x.dtype,
                device=x.device,
            )
            self.reverse_sweep = GroupedReverseSweep(
                make_sweep, stack, self.memory, threads=threads
            )
            self._sweep_key = key
        return self.reverse_sweep

    def _sweep_type(self, dtype: torch.dtype, device: torch.device | str) -> type[ReverseSweep]:
        """Return the reverse sweep for synsets of this type on this device."""
        is_rounded = self.precision == "bfloat16" and dtype == torch.float32
        if is_rounded and torch.device(device).type == "cpu" and has_bfloat16_products():
            return Bfloat16ReverseSweep
        return ReverseSweep
