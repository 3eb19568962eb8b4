r"""Actions between -1 and 1, which policies and datasets use, and actions of an environment.

.. math:: a_\mathrm{env} = l + (a + 1)\,(u - l) / 2

with the bounds :math:`l` and :math:`u` of the environment.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from obdbench.tasks.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
Bounds = tuple[tuple[float, ...], tuple[float, ...]]


def to_environment_actions(task: Task, actions: Array) -> Array:
    """Actions between -1 and 1 in the units of the environment, within its bounds."""
    if task.action_bounds is None:
        return actions
    low, high, half = _bound_arrays(task.action_bounds)
    scaled = low + (np.asarray(actions, np.float32) + 1.0) * half
    return np.asarray(np.minimum(np.maximum(scaled, low), high))


def to_unit_actions(task: Task, actions: Array) -> Array:
    """Actions in the units of the environment as numbers between -1 and 1."""
    if task.action_bounds is None:
        return actions
    low, _, half = _bound_arrays(task.action_bounds)
    return np.asarray((actions - low) / half - 1.0, np.float32)


@cache
def _bound_arrays(bounds: Bounds) -> tuple[Array, Array, Array]:
    """Smallest and largest actions, and half their distance."""
    low, high = np.asarray(bounds, np.float32)
    return low, high, (high - low) / np.float32(2.0)
