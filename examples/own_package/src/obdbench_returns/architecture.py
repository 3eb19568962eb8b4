"""The default student with SiLU in place of ReLU: smooth, so that its meta-gradient is too.

An architecture is any object with ``init`` and ``act`` of
:class:`obdbench.policies.networks.Architecture`; deriving from that class leaves one method to
write. Students of other classes take the general path to the meta-gradient, which is exact for
everything that torch can differentiate.
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
    """An MLP with SiLU between its layers."""

    def apply(self, params: Params, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log std of every policy of the stack."""
        x = states.expand(params["w0"].shape[0], *states.shape[-2:])
        for index in range(self.depth - 1):
            x = silu(stacked_linear(params, index, x))
        mean, raw = stacked_linear(params, self.depth - 1, x).chunk(2, dim=-1)
        return mean, (raw + LOG_STD_OFFSET).clamp(LOG_STD_MIN, LOG_STD_MAX)


MLP4_SILU = Smooth("mlp4-silu", 4)
