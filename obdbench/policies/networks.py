r"""Tanh-Gaussian MLPs whose parameters are a stacked tree with a leading axis.

A *stack* of S independent policies is one dictionary of tensors: ``w0 … w{L-1}`` of shape
(S, out, in) and ``b0 … b{L-1}`` of shape (S, out), so that they train and act as one tensor
program. With :math:`X_0 = s`,

.. math:: X_l = \mathrm{relu}(X_{l-1} W_l^\top + b_l), \qquad
          (\mu, r) = X_{L-1} W_L^\top + b_L, \qquad
          \log\sigma = \mathrm{clip}(r - 1, -20, 2),

and the action is :math:`\tanh(\mu + \sigma\epsilon)`, or :math:`\tanh\mu` without noise. Weights
start orthogonal with gain √2, biases at zero, as in the code bases of Cal-QL and OBD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

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
    """A family member: how many linear layers, and whether hidden ones carry skip connections."""

    name: str
    depth: int
    residual: bool = False
    width: int = 256

    def shapes(self, observation_size: int, action_size: int) -> list[tuple[int, int]]:
        """(out, in) of each linear layer; the last gives mean and raw log std."""
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
        """One fresh policy per generator, each independent of its neighbours in the stack."""
        params: Params = {}
        shapes = self.shapes(observation_size, action_size)
        for index, (rows, columns) in enumerate(shapes):
            drawn = torch.stack(
                [
                    torch.randn(max(rows, columns), min(rows, columns), generator=generator)
                    for generator in generators
                ]
            )
            params[f"w{index}"] = to_device(
                orthogonal_matrices(drawn, rows, columns), device, dtype
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
        """The action: tanh of the mean, or of a sample where standard normal noise is given."""
        mean, log_std = self.apply(params, states)
        return torch.tanh(mean if noise is None else mean + log_std.exp() * noise)


def stacked_linear(params: Params, index: int, x: Tensor) -> Tensor:
    """Layer ``index`` of every policy in the stack."""
    weight, bias = params[f"w{index}"], params[f"b{index}"]
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def orthogonal_matrices(drawn: Tensor, rows: int, columns: int) -> Tensor:
    """Orthogonal matrices from normal ones of shape (S, larger side, smaller side), gain √2.

    The QR factor with its signs fixed by R's diagonal is uniform over orthogonal matrices
    (Saxe et al., 2014, arXiv 1312.6120, propose the initialization).
    """
    reflected, scales = torch.geqrf(drawn)
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
    """Look an architecture up; anything with ``init`` and ``act`` of this signature will do."""
    found = architectures.get(name)
    if not callable(getattr(found, "init", None)) or not callable(getattr(found, "act", None)):
        raise InvalidSettingError(
            f"The architecture {name!r} has no init and act.",
            "Give it the two methods of obdbench.policies.networks.Architecture.",
        )
    return cast(Architecture, found)


def with_width(architecture: Architecture, width: int | None) -> Architecture:
    """The same with ``width`` units a hidden layer; unchanged where there is none."""
    if width is None:
        return architecture
    if not isinstance(architecture, Architecture):
        raise InvalidSettingError(
            f"{width} units fit no architecture but the MLPs.", "Leave out the setting width."
        )
    return replace(architecture, width=width)


def count_parameters(params: Params) -> int:
    """Numbers in one policy of the stack."""
    return sum(tensor[0].numel() for tensor in params.values())


def seeded_generator(seed: int, *stream: int) -> torch.Generator:
    """An explicit generator for one seed and one purpose, independent of all others."""
    import numpy as np

    state = np.random.SeedSequence([seed, *stream]).generate_state(2, dtype=np.uint32)
    return torch.Generator().manual_seed((int(state[0]) << 32 | int(state[1])) & (2**63 - 1))
