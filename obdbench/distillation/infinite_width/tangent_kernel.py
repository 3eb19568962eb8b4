r"""The tangent kernel of MLPs of infinite width, with its derivatives.

For the MLPs of :mod:`obdbench.policies.networks` (orthogonal weights of gain √2, zero biases, L
layers) every layer preserves norms. With :math:`n = |x||x'|`, the cosine :math:`c_0` of the two
inputs and the arc-cosine functions of Cho and Saul (2009, "Kernel methods for deep learning"), the
tangent kernel (Jacot et al., 2018, arXiv 1806.07572) is

.. math::
    \kappa_0(c) = 1 - \arccos(c) / \pi, \qquad
    \kappa_1(c) = c\,\kappa_0(c) + \sqrt{1 - c^2} / \pi, \qquad c_l = \kappa_1(c_{l-1}) \\
    \Theta(x, x') = n\,c_{L-1} + 1 +
        \sum_{l=1}^{L-1} (n\,c_{l-1} + 1) \prod_{j=l}^{L-1} \kappa_0(c_{j-1}).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-6
CPU_ROWS_PER_CHUNK = 64  # intermediate results of a chunk stay in the processor's cache


@dataclass(frozen=True)
class TangentKernel:
    """Θ between two sets of inputs, and its derivatives in the cosine and in n = |x||x'|."""

    cosine: Tensor
    value: Tensor
    by_cosine: Tensor
    by_norms: Tensor

    @classmethod
    def between(cls, left: Tensor, right: Tensor, depth: int) -> TangentKernel:
        """Compute the kernel of MLPs of ``depth`` layers between the rows of two matrices."""
        unit_left, norm_left = _normalize(left)
        unit_right, norm_right = _normalize(right)
        cosine = unit_left @ unit_right.T
        value, by_cosine, by_norms = (torch.empty_like(cosine) for _ in range(3))
        chunk = CPU_ROWS_PER_CHUNK if left.device.type == "cpu" else len(left)
        for start in range(0, len(left), chunk):
            rows = slice(start, start + chunk)
            value[rows], by_cosine[rows], by_norms[rows] = _kernel_and_derivatives(
                cosine[rows], norm_left[rows, None] * norm_right, depth
            )
        return cls(cosine, value, by_cosine, by_norms)

    def vjp(self, upstream: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Return the gradient in ``right`` of a function whose gradient in Θ is ``upstream``."""
        unit_left, norm_left = _normalize(left)
        unit_right, norm_right = _normalize(right)
        cosine_gradient = upstream * self.by_cosine
        radial = (upstream * self.by_norms).T @ norm_left
        radial -= torch.einsum("bn,bn->n", cosine_gradient, self.cosine) / norm_right
        tangential = (cosine_gradient.T @ unit_left) / norm_right[:, None]
        return tangential + radial[:, None] * unit_right


def _normalize(x: Tensor) -> tuple[Tensor, Tensor]:
    norm = x.norm(dim=-1).clamp_min(EPSILON)
    return x / norm[:, None], norm


def _kernel_and_derivatives(cosine: Tensor, n: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return Θ and its derivatives in the cosine c_0 and in n."""
    c = cosine.clamp(-1 + EPSILON, 1 - EPSILON)
    cosines, cosine_slopes = [c], [torch.ones_like(c)]  # c_l and dc_l/dc_0
    gates, gate_slopes = [], []  # κ0(c_l) and dκ0(c_l)/dc_0
    for _ in range(depth - 1):
        root = (1 - c * c).sqrt_()
        gate = torch.acos(c).mul_(-1 / math.pi).add_(1)
        gates.append(gate)
        gate_slopes.append(cosine_slopes[-1] / (math.pi * root))
        c = torch.addcmul(root.mul_(1 / math.pi), c, gate)
        cosines.append(c)
        cosine_slopes.append(cosine_slopes[-1] * gate)
    value, by_cosine = (n * c).add_(1), n * cosine_slopes[-1]
    by_norms = c.clone()
    product, product_slope = torch.ones_like(c), torch.zeros_like(c)  # of κ0 from layer l on
    for layer in reversed(range(depth - 1)):
        product_slope = torch.addcmul(product * gate_slopes[layer], product_slope, gates[layer])
        product = product * gates[layer]
        term = (n * cosines[layer]).add_(1)
        value.addcmul_(product, term)
        by_norms.addcmul_(product, cosines[layer])
        by_cosine.addcmul_(product_slope, term).addcmul_(product, n * cosine_slopes[layer])
    return value, by_cosine, by_norms
