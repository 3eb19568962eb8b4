r"""The squashed Gaussian: :math:`a = \tanh(u)` with :math:`u \sim N(\mu, \sigma^2)`.

.. math:: \log p(a) = \sum_j \log N(u_j; \mu_j, \sigma_j^2) - \log(1 - \tanh^2 u_j)

with the second term in the form :math:`2(\log 2 - u - \mathrm{softplus}(-2u))`, which does not
overflow (Haarnoja et al., 2018, arXiv 1812.05905, appendix C, states the density).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, tanh
from torch.nn.functional import softplus


def sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions and their log-densities, from standard normal noise."""
    raw = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    squash = 2 * (math.log(2) - raw - softplus(-2 * raw))
    return tanh(raw), (gaussian - squash).sum(-1)


class Proposals(Protocol):
    """Sizes of what a step draws."""

    @property
    def batch(self) -> int:
        """Rows of every dataset."""

    @property
    def samples(self) -> int:
        """Proposals a row."""

    @property
    def penalized(self) -> int:
        """Rows that get proposals."""


@dataclass(frozen=True)
class Noise:
    """What one step draws: standard normal but for ``uniform``, which holds actions.

    ``following`` and ``acting`` have the shape of the batch's actions; the others give ``samples``
    proposals for each of the first ``penalized`` rows.
    """

    following: Tensor
    acting: Tensor
    here: Tensor
    there: Tensor
    uniform: Tensor

    @classmethod
    def draw(
        cls, datasets: int, actions: int, settings: Proposals, generator: torch.Generator
    ) -> Noise:
        """Fresh noise."""
        plain = (datasets, settings.batch, actions)
        proposals = (datasets, settings.samples, settings.penalized, actions)
        normal = [
            torch.randn(shape, generator=generator)
            for shape in (plain, plain, proposals, proposals)
        ]
        return cls(*normal, 2 * torch.rand(proposals, generator=generator) - 1)
