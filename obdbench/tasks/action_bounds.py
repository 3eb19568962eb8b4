r"""Actions between -1 and 1, which policies and datasets use, and actions of an environment.

.. math:: a_\mathrm{env} = l + (a + 1)\,(u - l) / 2

with the bounds :math:`l` and :math:`u` of the environment.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from obdbench.tasks.task import Task

Array = np.ndarray[Any, np.dtype[Any]]
Bounds = tuple[tuple[float, ...], tuple[float, ...]]


def to_environment_actions(task: Task, actions: Array) -> Array:
    """Actions between -1 and 1 in the units of the environment, within its bounds."""
    if task.action_bounds is None:
        return actions
    low, high = np.asarray(task.action_bounds, np.float32)
    scaled = low + (np.asarray(actions, np.float32) + 1.0) * (high - low) / 2.0
    return np.asarray(np.clip(scaled, low, high), np.float32)


def to_unit_actions(task: Task, actions: Array) -> Array:
    """Actions in the units of the environment as numbers between -1 and 1."""
    if task.action_bounds is None:
        return actions
    low, high = np.asarray(task.action_bounds, np.float32)
    return np.asarray(2.0 * (actions - low) / (high - low) - 1.0, np.float32)
