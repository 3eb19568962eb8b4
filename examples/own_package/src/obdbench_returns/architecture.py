"""The default student with SiLU instead of ReLU, which makes the meta-gradient smooth.

An architecture is any object with the methods ``init`` and ``act`` of
:class:`obdbench.policies.networks.Architecture`. A subclass overrides one method. The meta-gradient
of other classes uses automatic differentiation, which is exact for all differentiable operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import silu

from obdbench.policies.networks import (
    LOG_STD_MAX,
    LOG_STD_MIN,
    LOG_STD_OFFSET,
    Architecture,
    Params,
    stacked_linear,
)


@dataclass(frozen=True)
class Smooth(Architecture):
    """An MLP with SiLU activations."""

    def apply(self, params: Params, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log std of every policy of the stack."""
        x = states.expand(params["w0"].shape[0], *states.shape[-2:])
        for index in range(self.depth - 1):
            x = silu(stacked_linear(params, index, x))
        mean, raw = stacked_linear(params, self.depth - 1, x).chunk(2, dim=-1)
        return mean, (raw + LOG_STD_OFFSET).clamp(LOG_STD_MIN, LOG_STD_MAX)


MLP4_SILU = Smooth("mlp4-silu", 4)
