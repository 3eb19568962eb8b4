r"""Tanh-Gaussian MLPs whose parameters are stacked along a leading axis.

A *stack* of S independent policies is one dictionary of tensors: ``w0 … w{L-1}`` of shape
(S, out, in) and ``b0 … b{L-1}`` of shape (S, out), so that all policies train and act in the same
tensor operations. With :math:`X_0 = s`,

.. math:: X_l = \mathrm{relu}(X_{l-1} W_l^\top + b_l), \qquad
          (\mu, r) = X_{L-1} W_L^\top + b_L, \qquad
          \log\sigma = \mathrm{clip}(r - 1, -20, 2),

and the action is :math:`\tanh(\mu + \sigma\epsilon)`, or :math:`\tanh\mu` without noise. Initial
weights are orthogonal with gain √2 and initial biases zero, as in the code of Cal-QL and OBD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from obdbench.errors import InvalidSettingError
from obdbench.policies.device import to_device
from obdbench.registry import architectures

Params = dict[str, Tensor]

LOG_STD_OFFSET = -1.0
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
GAIN = math.sqrt(2.0)


@dataclass(frozen=True)
class Architecture:
    """An MLP with ``depth`` linear layers; ``residual`` adds skip connections to hidden layers."""

    name: str
    depth: int
    residual: bool = False
    width: int = 256

    def shapes(self, observation_size: int, action_size: int) -> list[tuple[int, int]]:
        """(out, in) of each linear layer; the outputs of the last are mean and raw log std."""
        sizes = [observation_size, *[self.width] * (self.depth - 1), 2 * action_size]
        return [(sizes[i + 1], sizes[i]) for i in range(self.depth)]

    def init(
        self,
        generators: Sequence[torch.Generator],
        observation_size: int,
        action_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Params:
        """One initial policy per generator, independent of the other policies in the stack."""
        params: Params = {}
        shapes = self.shapes(observation_size, action_size)
        for index, (rows, columns) in enumerate(shapes):
            normal = torch.stack(
                [
                    torch.randn(max(rows, columns), min(rows, columns), generator=generator)
                    for generator in generators
                ]
            )
            params[f"w{index}"] = to_device(
                orthogonal_matrices(normal, rows, columns), device, dtype
            )
            params[f"b{index}"] = torch.zeros(len(generators), rows, dtype=dtype, device=device)
        return params

    def apply(self, params: Params, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log std, (S, N, action), for states of shape (N, obs) or (S, N, obs)."""
        x = states.expand(params["w0"].shape[0], *states.shape[-2:])
        for index in range(self.depth - 1):
            h = torch.relu(stacked_linear(params, index, x))
            x = x + h if self.residual and index > 0 else h
        mean, raw = stacked_linear(params, self.depth - 1, x).chunk(2, dim=-1)
        return mean, (raw + LOG_STD_OFFSET).clamp(LOG_STD_MIN, LOG_STD_MAX)

    def act(self, params: Params, states: Tensor, noise: Tensor | None = None) -> Tensor:
        """The action: tanh of the mean, or of a sample if standard normal noise is given."""
        mean, log_std = self.apply(params, states)
        return torch.tanh(mean if noise is None else mean + log_std.exp() * noise)


def stacked_linear(params: Params, index: int, x: Tensor) -> Tensor:
    """Layer ``index`` of every policy in the stack."""
    weight, bias = params[f"w{index}"], params[f"b{index}"]
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def orthogonal_matrices(normal: Tensor, rows: int, columns: int) -> Tensor:
    """Orthogonal matrices with gain √2 from normal matrices of shape (S, larger, smaller side).

    With signs fixed by the diagonal of R, the QR factor is uniform over orthogonal matrices. Saxe
    et al., 2014, arXiv 1312.6120, propose the initialization.
    """
    reflected, scales = torch.geqrf(normal)
    q: Tensor = torch.linalg.householder_product(reflected, scales)
    q.mul_(GAIN * torch.diagonal(reflected, dim1=-2, dim2=-1).sign().unsqueeze(-2))
    return (q if rows >= columns else q.transpose(-2, -1)).contiguous()


MLP2 = Architecture("mlp2", 2)
MLP3 = Architecture("mlp3", 3)
MLP4 = Architecture("mlp4", 4)
MLP5 = Architecture("mlp5", 5)
MLP6 = Architecture("mlp6", 6)
RESIDUAL = Architecture("residual", 4, residual=True)


def get_architecture(name: str) -> Architecture:
    """Get an architecture by name: any object with ``init`` and ``act`` of these signatures."""
    architecture = architectures.get(name)
    methods = [getattr(architecture, method, None) for method in ("init", "act")]
    if not all(map(callable, methods)):
        raise InvalidSettingError(
            f"The architecture {name!r} lacks a method init or act.",
            "Implement both methods of obdbench.policies.networks.Architecture.",
        )
    return cast(Architecture, architecture)


def with_width(architecture: Architecture, width: int | None) -> Architecture:
    """The architecture with ``width`` units per hidden layer; unchanged if ``width`` is None."""
    if width is None:
        return architecture
    if not isinstance(architecture, Architecture):
        raise InvalidSettingError(
            "The setting width applies only to MLP architectures.", "Remove the setting width."
        )
    return replace(architecture, width=width)


def count_parameters(params: Params) -> int:
    """Number of parameters of one policy of the stack."""
    return sum(tensor[0].numel() for tensor in params.values())


def seeded_generator(seed: int, *stream: int) -> torch.Generator:
    """A generator for one seed and one stream, independent of other seeds and streams.

    Streams that differ only by zeros at their end are equal.
    """
    state = np.random.SeedSequence([seed, *stream]).generate_state(2, dtype=np.uint32)
    return torch.Generator().manual_seed((int(state[0]) << 32 | int(state[1])) & (2**63 - 1))
