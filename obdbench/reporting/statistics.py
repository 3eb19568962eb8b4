r"""Statistics with the seed as their unit.

A *group* holds one dataset's scores, one a seed; a row of a table is a list of groups. Aggregates
over datasets follow Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical
Precipice* (2021, arXiv 2108.13264): the interquartile mean with percentile intervals of the
stratified bootstrap, the probability of improvement, and performance profiles. Every bootstrap
starts from its own fixed seed, so that no figure depends on the order in which it is computed.

A statistic takes groups as arrays whose first axis runs over seeds; what follows it are replicates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Groups = Sequence[Sequence[float]]
Statistic = Callable[..., Array]

LEVEL = 0.95
REPLICATES = 2_000
BOOTSTRAP_SEED = 20_240_610


@dataclass(frozen=True)
class Interval:
    """An estimate, and its bounds where there are seeds enough to have any."""

    estimate: float
    low: float | None = None
    high: float | None = None

    @property
    def bounded(self) -> bool:
        """Whether the interval has bounds."""
        return self.low is not None and self.high is not None


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the sample standard deviation (n - 1) where there are two values or more."""
    if not values:
        raise ValueError("the mean of no values")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def average(groups: Sequence[Array]) -> Array:
    """Mean over datasets of the mean over seeds; every dataset weighs the same."""
    return np.asarray(np.mean([group.mean(axis=0) for group in groups], axis=0))


def iqm(groups: Sequence[Array]) -> Array:
    """Interquartile mean over all seeds of all datasets: a quarter is cut off either end.

    With n values, floor(n / 4) go at each end.
    """
    scores = np.sort(np.concatenate(groups), axis=0)
    cut = len(scores) // 4
    return np.asarray(scores[cut : len(scores) - cut].mean(axis=0))


def improvement(ours: Sequence[Array], theirs: Sequence[Array]) -> Array:
    r"""Probability of improvement, averaged over datasets.

    .. math:: P(X > Y) + \tfrac12 P(X = Y)

    over all pairs of a seed of ours with a seed of theirs: the Mann-Whitney statistic over the
    number of pairs.
    """
    wins = [
        (1.0 + np.sign(mine[:, None] - other[None, :]).mean(axis=(0, 1))) / 2.0
        for mine, other in zip(ours, theirs, strict=True)
    ]
    return np.asarray(np.mean(wins, axis=0))


def profile(thresholds: Array) -> Statistic:
    """The performance profile: the share of seeds above each threshold, averaged over datasets."""

    def statistic(groups: Sequence[Array]) -> Array:
        shares = [
            (group[:, None] > thresholds.reshape(-1, *[1] * (group.ndim - 1))).mean(axis=0)
            for group in groups
        ]
        return np.asarray(np.mean(shares, axis=0))

    return statistic


def arrays(groups: Groups) -> list[Array]:
    """Groups as arrays; an empty group is refused."""
    if not groups or any(len(group) == 0 for group in groups):
        raise ValueError("a statistic over datasets needs at least one seed of each")
    return [np.asarray(group, dtype=np.float64) for group in groups]


def replicate(
    statistic: Statistic, samples: Sequence[Groups], replicates: int = REPLICATES
) -> Array:
    """The statistic of bootstrap replicates, along the last axis: seeds are redrawn by dataset."""
    groups = [arrays(sample) for sample in samples]
    draws = iter(_draws(tuple(len(g) for sample in groups for g in sample), replicates))
    return statistic(*([group[next(draws)] for group in sample] for sample in groups))


@lru_cache(maxsize=16)
def _draws(sizes: tuple[int, ...], replicates: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Which seeds each replicate takes; equal shapes share them, as every start is the same."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    return [rng.integers(size, size=(size, replicates)) for size in sizes]


def bootstrap(
    statistic: Statistic, *samples: Groups, replicates: int = REPLICATES, level: float = LEVEL
) -> Interval:
    """A statistic of one or several samples with its percentile interval.

    No bounds are given where any dataset has a single seed: nothing is known of its spread.
    """
    estimate = float(statistic(*(arrays(sample) for sample in samples)))
    if any(len(group) < 2 for sample in samples for group in sample):
        return Interval(estimate)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(replicate(statistic, samples, replicates), [tail, 100.0 - tail])
    return Interval(estimate, float(low), float(high))


def paired_difference(differences: Groups, level: float = LEVEL) -> Interval:
    r"""Mean over datasets of the seedwise differences, with a Student interval.

    .. math::

        \hat d = \frac1D \sum_i \bar d_i, \qquad
        \hat v = \frac1{D^2} \sum_i \frac{s_i^2}{n_i}, \qquad
        \nu = \frac{(\sum_i s_i^2 / n_i)^2}{\sum_i (s_i^2 / n_i)^2 / (n_i - 1)}

    (Welch, 1947). With one dataset this is the paired t interval. Unlike the bootstrap it stays
    honest with three seeds. The datasets are taken as given: it speaks of other seeds on them.
    """
    groups = arrays(differences)
    estimate = float(average(groups))
    if any(len(group) < 2 for group in groups):
        return Interval(estimate)
    parts = np.array([group.var(ddof=1) / len(group) for group in groups])
    if not parts.any():
        return Interval(estimate, estimate, estimate)
    weights = np.array([len(group) - 1 for group in groups])
    shares = parts / parts.sum()
    freedom = max(1.0 / float((shares**2 / weights).sum()), 1.0)  # less by rounding alone
    reach = student_quantile(0.5 + level / 2.0, freedom) * float(np.sqrt(parts.sum()) / len(groups))
    return Interval(estimate, estimate - reach, estimate + reach)


def student_quantile(probability: float, freedom: float) -> float:
    r"""Quantile of Student's t distribution, for a probability above one half.

    With :math:`t = \sqrt\nu \tan\theta` the density becomes proportional to
    :math:`\cos^{\nu-1}\theta`, which is smooth and bounded for :math:`\nu \ge 1`: its integral by
    trapezoids is inverted.
    """
    if not 0.5 < probability < 1.0 or freedom < 1.0:
        raise ValueError("a probability between 0.5 and 1 and at least one degree of freedom")
    theta = np.linspace(0.0, np.pi / 2.0, 200_001)
    density = np.cos(theta) ** (freedom - 1.0)
    integral = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0)])
    angle = np.interp(2.0 * probability - 1.0, integral / integral[-1], theta)
    return float(np.sqrt(freedom) * np.tan(angle))
