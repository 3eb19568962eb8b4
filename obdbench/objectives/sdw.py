r"""SDW, state-density weighting.

.. math:: H(\pi) = \mathbb{E}_{s \sim D}\; \frac{w_\mathrm{base}(s)}{d(s)^{\tau}}\,
          \lVert \pi(s) - \pi^*(s) \rVert^2

Lei, Cheng and Tao, 2025, arXiv 2512.06692: where data is of little diversity, rare states matter
more than their frequency says, so the base objective is weighted by the reciprocal of the state's
density, estimated by a masked autoregressive flow. What we could not read there is a parameter
here, with a reason for its default:

``tau`` (0.1)
    the exponent. On the genuine data log-densities spread over 6 to 14 nats, so a literal 1/d
    puts nearly all weight on a handful of states; at 0.1 the effective sample fraction is
    0.2 to 0.7.
``floor_quantile`` (0.01)
    densities below this quantile count as that quantile: a few states have log d = −∞.
``density_normalization`` ("mean-one")
    density is per unit of volume, so d^(−τ) has an arbitrary scale; scaled to mean one it leaves
    the base objective's scale as it was.
``base`` ("av-pbc")
    the objective that is multiplied; "pbc" is the other choice.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.objectives.av_pbc import AvPBC
from obdbench.objectives.density import log_density
from obdbench.objectives.objective import (
    Columns,
    Normalization,
    check_choice,
    check_range,
    normalized,
    tensor,
)
from obdbench.objectives.pbc import PBC
from obdbench.teachers.teacher import Teacher


def density_weight(log_d: Tensor, tau: float, floor_quantile: float, how: Normalization) -> Tensor:
    """d^(−τ) with densities floored at a quantile, computed in float64 and without overflow."""
    logs = log_d.double()
    floor = np.quantile(logs[logs.isfinite()].numpy(), floor_quantile)
    logs = logs.clamp_min(float(floor))
    if how == "mean-one":  # the shift cancels in the mean; it keeps the exponential in range
        logs = logs - logs.min()
    return normalized((-tau * logs).exp(), how).float()


class SDW(AvPBC):
    """Weighted further by the reciprocal of the state's density."""

    name: ClassVar[str] = "sdw"

    def __init__(
        self,
        *,
        tau: float = 0.1,
        floor_quantile: float = 0.01,
        density_normalization: Normalization = "mean-one",
        base: Literal["av-pbc", "pbc"] = "av-pbc",
        beta: float = 0.02,
        weight_normalization: Normalization = "none",
        sample_teacher: bool = False,
    ) -> None:
        super().__init__(
            beta=beta, weight_normalization=weight_normalization, sample_teacher=sample_teacher
        )
        check_range("tau", tau, 0.0, 10.0)
        check_range("floor_quantile", floor_quantile, 0.0, 0.5)
        check_choice("density normalization", density_normalization, ("none", "mean-one"))
        check_choice("base objective", base, ("av-pbc", "pbc"))
        self.tau = tau
        self.floor_quantile = floor_quantile
        self.density_normalization: Normalization = density_normalization
        self.base = base

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """The base objective's columns, its weight multiplied by the density's."""
        density = density_weight(
            tensor(log_density(dataset)), self.tau, self.floor_quantile, self.density_normalization
        )
        if self.base == "pbc":
            columns = PBC.prepare(self, dataset, teacher, rng)
            columns["weight"] = normalized(density, self.weight_normalization)
            return columns
        columns = super().prepare(dataset, teacher, rng)
        columns["weight"] = normalized(columns["weight"] * density, self.weight_normalization)
        return columns
