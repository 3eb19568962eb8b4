"""Conversion of recorded rows to the transitions that offline RL learns from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from obdbench.datasets.dataset import Array


def qlearning_columns(columns: Mapping[str, Array], episode_limit: int) -> dict[str, Array]:
    """D4RL's ``qlearning_dataset``, vectorized.

    The next observation is the following row's. Rows with a time-out have no next observation and
    are omitted, as is the last row. In a file without time-outs, these are the rows at which
    episodes reach the limit. The row before an omitted one is marked as a time-out, so that the
    boundaries of episodes remain known.
    """
    terminals = np.asarray(columns["terminals"]).astype(bool)
    if "timeouts" in columns:
        timeouts = np.asarray(columns["timeouts"]).astype(bool)
    else:
        timeouts = implied_timeouts(terminals, episode_limit)
    rows = np.flatnonzero(~timeouts[:-1])
    before_timeout = (
        np.append(timeouts[1:-1], True) if len(timeouts) > 1 else np.empty(0, dtype=bool)
    )
    observations = as_float32(columns["observations"])
    return {
        "observations": observations[rows],
        "actions": as_float32(columns["actions"])[rows],
        "rewards": as_float32(columns["rewards"])[rows],
        "terminals": terminals[rows],
        "timeouts": (before_timeout & ~terminals[:-1])[rows],
        "next_observations": observations[rows + 1],
    }


def as_float32(column: Array) -> Array:
    """Convert to single precision; overflow becomes infinite, which :class:`Dataset` refuses."""
    with np.errstate(over="ignore"):
        return np.asarray(column, dtype=np.float32)


def implied_timeouts(terminals: Array, episode_limit: int) -> Array:
    """Rows at which D4RL's step counter reaches the limit, for a file without time-outs.

    The counter restarts at 0 after a time-out, but at 1 after a terminal row, because D4RL
    increases it once more in the same iteration.
    """
    timeouts = np.zeros(len(terminals), dtype=bool)
    start, counter = 0, 0
    for end in (*np.flatnonzero(terminals).tolist(), len(terminals) - 1):
        timeouts[start + episode_limit - 1 - counter : end + 1 : episode_limit] = True
        start, counter = end + 1, 0 if timeouts[end : end + 1].any() else 1
    return timeouts
