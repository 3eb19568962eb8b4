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


def mean_headline_score(result: Result) -> float | None:
    """Return the mean over the seeds and arms of a trial; None if it has no scores."""
    curves: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for point in result.points:
        curves[point.arm, point.seed].append((point.step, point.normalized_return))
    if not curves:
        return None
    scores = (headline_score(tuple(sorted(curve))) for curve in curves.values())
    return math.fsum(scores) / len(curves)
