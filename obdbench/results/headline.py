"""The headline score: one number from the evaluation points of a seed."""

from __future__ import annotations

import math
from collections import defaultdict

from obdbench.results.record import Result

Curve = tuple[tuple[int, float], ...]  # (outer step, normalized return), in the order of steps
HEADLINE_POINTS = 5


def distilled_points(curve: Curve) -> Curve:
    """Return the points after step 0; all points if there are no others."""
    return tuple(point for point in curve if point[0] > 0) or curve


def headline_score(curve: Curve) -> float:
    """Return the score of a seed: the mean over its last five evaluation points.

    Step 0, before any distillation, counts only if there is no other point.
    """
    last = distilled_points(curve)[-HEADLINE_POINTS:]
    return math.fsum(score for _, score in last) / len(last)


def curves_of(result: Result) -> dict[str, dict[int, Curve]]:
    """Return the curves of a trial by arm and seed."""
    curves: dict[str, dict[int, Curve]] = defaultdict(dict)
    for point in sorted(result.points, key=lambda point: point.step):
        known = curves[point.arm].get(point.seed, ())
        curves[point.arm][point.seed] = (*known, (point.step, point.normalized_return))
    return dict(curves)


def mean_headline_score(result: Result) -> float | None:
    """Return the mean over the seeds and arms of a trial; None if it has no scores."""
    curves = [curve for seeds in curves_of(result).values() for curve in seeds.values()]
    return math.fsum(map(headline_score, curves)) / len(curves) if curves else None
