"""Seeds whose students miss much of the variance of the target actions, according to checks."""

from __future__ import annotations

import math

from obdbench.results.record import Result, StudentCheckRecord

LARGEST_MISSED_VARIANCE = 0.5


def missed_variance(check: StudentCheckRecord) -> float:
    """Return the missed variance of a check; infinity if a student diverged."""
    return math.inf if check.missed_variance is None else check.missed_variance


def seeds_with_high_missed_variance(result: Result) -> frozenset[int]:
    """Return the seeds whose students miss much of the variance of the target actions.

    These are the seeds for which the missed variance of the last check exceeds 0.5, or exceeds the
    smallest one of the seed by more than ``guard_max_rise``. Seeds without checks are left out.
    """
    max_rise = result.spec.settings.guard_max_rise
    seeds = set()
    for seed, checks in result.student_checks.items():
        shares = [missed_variance(check) for check in checks]
        if shares and (shares[-1] > LARGEST_MISSED_VARIANCE or shares[-1] > min(shares) + max_rise):
            seeds.add(int(seed))
    return frozenset(seeds)
