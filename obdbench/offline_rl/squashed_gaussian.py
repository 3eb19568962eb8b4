r"""The squashed Gaussian: :math:`a = \tanh(u)` with :math:`u \sim N(\mu, \sigma^2)`.

.. math:: \log p(a) = \sum_j \log N(u_j; \mu_j, \sigma_j^2) - \log(1 - \tanh^2 u_j),

with the second term computed as :math:`2(\log 2 - u - \mathrm{softplus}(-2u))`, which does not
overflow (Haarnoja et al., 2018, arXiv 1812.05905, appendix C, gives the density).
"""

from __future__ import annotations

import math

from torch import Tensor, tanh
from torch.nn.functional import softplus


def sample_actions(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions and their log densities, from standard normal noise."""
    unsquashed = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    correction = 2.0 * (math.log(2.0) - unsquashed - softplus(-2.0 * unsquashed))
    return tanh(unsquashed), (gaussian - correction).sum(dim=-1)
