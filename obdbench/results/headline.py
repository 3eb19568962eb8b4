"""What one number a seed's evaluation points come to."""

from __future__ import annotations

import math
from collections import defaultdict

from obdbench.results.record import Result

Curve = tuple[tuple[int, float], ...]  # (outer step, normalized return), in the order of steps
HEADLINE_POINTS = 5


def distilled(curve: Curve) -> Curve:
    """The points at which something was distilled; all where nothing ever was."""
    return tuple(point for point in curve if point[0] > 0) or curve


def headline(curve: Curve) -> float:
    """The score of a seed: the mean over its last five evaluation points.

    Step 0, before anything is distilled, is one of them only where there is no other.
    """
    last = distilled(curve)[-HEADLINE_POINTS:]
    return math.fsum(score for _, score in last) / len(last)


def mean_headline(result: Result) -> float | None:
    """The mean over a trial's seeds and arms, None where it has no scores."""
    curves: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for point in result.points:
        curves[point.arm, point.seed].append((point.step, point.normalized_return))
    if not curves:
        return None
    return math.fsum(headline(tuple(sorted(curve))) for curve in curves.values()) / len(curves)
