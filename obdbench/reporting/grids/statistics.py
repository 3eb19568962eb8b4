r"""Statistics whose unit is the seed.

A *group* contains the scores of one dataset, one per seed; a row of a table is a list of groups.
Aggregates over datasets follow Agarwal et al., *Deep Reinforcement Learning at the Edge of the
Statistical Precipice* (2021, arXiv 2108.13264): the interquartile mean with percentile intervals of
the stratified bootstrap, the probability of improvement, and performance profiles. Every bootstrap
starts from the same fixed seed, so that no figure depends on the order of computation.

A statistic takes groups as arrays. The first axis of an array runs over seeds, the others over
bootstrap replicates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import stdtrit

Array = np.ndarray[Any, np.dtype[np.float64]]
Groups = Sequence[Sequence[float]]
Statistic = Callable[..., Array]

PERCENTILES = (2.5, 97.5)  # the bounds of 95% intervals
REPLICATES = 2_000
BOOTSTRAP_SEED = 20_240_610


@dataclass(frozen=True)
class Interval:
    """An estimate and its bounds; the bounds are None where there are too few seeds."""

    estimate: float
    low: float | None = None
    high: float | None = None


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); one value has no standard deviation."""
    if not values:
        raise ValueError("the mean needs at least one value")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def mean_over_datasets(groups: Sequence[Array]) -> Array:
    """Mean over datasets of the mean over seeds; every dataset has the same weight."""
    return np.asarray(np.mean([group.mean(axis=0) for group in groups], axis=0))


def interquartile_mean(groups: Sequence[Array]) -> Array:
    """Interquartile mean over all seeds of all datasets.

    Of n sorted values, floor(n / 4) are removed at each end.
    """
    scores = np.sort(np.concatenate(groups), axis=0)
    cut = len(scores) // 4
    return np.asarray(scores[cut : len(scores) - cut].mean(axis=0))


def probability_of_improvement(first: Sequence[Array], second: Sequence[Array]) -> Array:
    r"""Probability of improvement, averaged over datasets.

    .. math:: P(X > Y) + \tfrac12 P(X = Y)

    over all pairs of a seed of X with a seed of Y: the Mann-Whitney statistic divided by the number
    of pairs.
    """
    wins = [
        (1.0 + np.sign(x[:, None] - y[None, :]).mean(axis=(0, 1))) / 2.0
        for x, y in zip(first, second, strict=True)
    ]
    return np.asarray(np.mean(wins, axis=0))


def performance_profile(thresholds: Array) -> Statistic:
    """The performance profile: the share of seeds above each threshold, averaged over datasets."""

    def statistic(groups: Sequence[Array]) -> Array:
        shares = [
            (group[:, None] > thresholds.reshape(-1, *[1] * (group.ndim - 1))).mean(axis=0)
            for group in groups
        ]
        return np.asarray(np.mean(shares, axis=0))

    return statistic


def grand_mean(groups: Groups) -> float:
    """:func:`mean_over_datasets` of groups of numbers."""
    return float(mean_over_datasets(as_arrays(groups)))


def as_arrays(groups: Groups) -> list[Array]:
    """Groups as arrays; an empty group is an error."""
    if not groups or any(len(group) == 0 for group in groups):
        raise ValueError("a statistic needs at least one dataset and one seed for each")
    return [np.asarray(group, dtype=np.float64) for group in groups]


def bootstrap_replicates(
    statistic: Statistic, samples: Sequence[Groups], replicates: int = REPLICATES
) -> Array:
    """The statistic of bootstrap replicates, which resample seeds within each dataset."""
    groups = [as_arrays(sample) for sample in samples]
    draws = iter(_draws(tuple(len(g) for sample in groups for g in sample), replicates))
    return statistic(*([group[next(draws)] for group in sample] for sample in groups))


@lru_cache(maxsize=16)
def _draws(sizes: tuple[int, ...], replicates: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Indices of the seeds of each replicate, per group; calls with equal sizes share them."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    return [rng.integers(size, size=(size, replicates)) for size in sizes]


def bootstrap_interval(
    statistic: Statistic, *samples: Groups, replicates: int = REPLICATES
) -> Interval:
    """A statistic of one or several samples with its 95% percentile interval.

    There are no bounds if any dataset has a single seed.
    """
    estimate = float(statistic(*(as_arrays(sample) for sample in samples)))
    if any(len(group) < 2 for sample in samples for group in sample):
        return Interval(estimate)
    low, high = np.percentile(bootstrap_replicates(statistic, samples, replicates), PERCENTILES)
    return Interval(estimate, float(low), float(high))


def differences_per_seed(first: Groups, second: Groups) -> list[list[float]]:
    """Differences of the scores that are at the same place of the same group."""
    return [[x - y for x, y in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]


def mean_interval(samples: Groups) -> Interval:
    r"""Mean over datasets of scores or of paired differences per seed, with a 95% Student interval.

    .. math::

        \hat d = \frac1D \sum_i \bar d_i, \qquad
        \hat v = \frac1{D^2} \sum_i \frac{s_i^2}{n_i}, \qquad
        \nu = \frac{(\sum_i s_i^2 / n_i)^2}{\sum_i (s_i^2 / n_i)^2 / (n_i - 1)}

    (Welch, 1947): the variance of the mean adds those of the datasets, whose seeds are independent.
    With one dataset this is the t interval. Unlike the bootstrap interval it
    keeps its coverage with three seeds. It describes other seeds on the same datasets.
    """
    groups = as_arrays(samples)
    estimate = float(mean_over_datasets(groups))
    if any(len(group) < 2 for group in groups):
        return Interval(estimate)
    variances = np.array([group.var(ddof=1) / len(group) for group in groups])
    if not variances.any():
        return Interval(estimate, estimate, estimate)
    weights = np.array([len(group) - 1 for group in groups])
    shares = variances / variances.sum()
    freedom = max(1.0 / float((shares**2 / weights).sum()), 1.0)  # rounding may give less
    half_width = float(stdtrit(freedom, PERCENTILES[1] / 100.0)) * float(
        np.sqrt(variances.sum()) / len(groups)
    )
    return Interval(estimate, estimate - half_width, estimate + half_width)
