r"""SDW, state-density weighting.

.. math:: H(\pi) = \mathbb{E}_{s \sim D}\; \frac{w_\mathrm{base}(s)}{d(s)^{\tau}}\,
          \lVert \pi(s) - \pi^*(s) \rVert^2

Lei, Cheng and Tao, 2025, arXiv 2512.06692: in data of low diversity, rare states matter more than
their frequency suggests, so the base objective is weighted by the reciprocal of the state density,
which a masked autoregressive flow estimates. Settings that the paper does not state are parameters:

``tau`` (0.1)
    The exponent. On the genuine data the log-densities have standard deviations of 6 to 14 nats, so
    that a literal 1/d puts nearly all weight on a few states. At 0.1 the effective sample fraction
    is 0.2 to 0.7.
``floor_quantile`` (0.01)
    Densities below this quantile are raised to it, because some states have log d = −∞.
``density_normalization`` ("mean-one")
    Density has the unit 1/volume, so the scale of d^(−τ) is arbitrary. Mean one preserves the
    scale of the base objective.
``base`` ("av-pbc")
    The objective that is weighted; "pbc" is the alternative.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    float_tensor,
    normalize_weights,
)
from obdbench.objectives.pbc import PBC
from obdbench.teachers.teacher import Teacher


def density_weight(
    log_d: Tensor, tau: float, floor_quantile: float, normalization: Normalization
) -> Tensor:
    """d^(−τ) with densities raised to a quantile, computed in float64 without overflow."""
    logs = log_d.double()
    floor = np.quantile(logs[logs.isfinite()].numpy(), floor_quantile)
    logs = logs.clamp_min(float(floor))
    if normalization == "mean-one":  # the shift cancels and prevents overflow
        logs = logs - logs.min()
    return normalize_weights((-tau * logs).exp(), normalization).float()


@dataclass(kw_only=True, eq=False)
class SDW(AvPBC):
    """PBC or Av-PBC weighted by the reciprocal of the state density."""

    name: ClassVar[str] = "sdw"
    tau: float = 0.1
    floor_quantile: float = 0.01
    density_normalization: Normalization = "mean-one"
    base: Literal["av-pbc", "pbc"] = "av-pbc"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("tau", self.tau, 0.0, 10.0)
        check_range("floor_quantile", self.floor_quantile, 0.0, 0.5)
        check_choice("density normalization", self.density_normalization, ("none", "mean-one"))
        check_choice("base objective", self.base, ("av-pbc", "pbc"))
        self.uses_critic = self.base == "av-pbc"  # type: ignore[misc]

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> Columns:
        """The columns of the base objective, with its weight multiplied by the density weight."""
        density = density_weight(
            float_tensor(log_density(dataset)),
            self.tau,
            self.floor_quantile,
            self.density_normalization,
        )
        if self.base == "pbc":
            columns = PBC.prepare(self, dataset, teacher, rng)
            columns["weight"] = normalize_weights(density, self.weight_normalization)
            return columns
        columns = super().prepare(dataset, teacher, rng)
        columns["weight"] = normalize_weights(
            columns["weight"] * density, self.weight_normalization
        )
        return columns
