"""From rows in the order of recording to the transitions that offline RL learns from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from obdbench.datasets.dataset import Array


def qlearning_columns(columns: Mapping[str, Array], episode_limit: int) -> dict[str, Array]:
    """D4RL's ``qlearning_dataset``, all rows at once.

    The next observation is the following row's. Rows at which an episode was cut off have none and
    are left out, and so is the last row. Where a file marks no time-outs, they are where its
    episodes reach the limit. The row before a left-out one is marked as a time-out here, so that
    episodes can still be told apart.
    """
    terminals = np.asarray(columns["terminals"]).astype(bool)
    if "timeouts" in columns:
        cut = np.asarray(columns["timeouts"]).astype(bool)
    else:
        cut = implied_timeouts(terminals, episode_limit)
    kept = np.flatnonzero(~cut[:-1])
    ends_next = np.append(cut[1:-1], True) if len(cut) > 1 else np.empty(0, dtype=bool)
    observations = as_float32(columns["observations"])
    return {
        "observations": observations[kept],
        "actions": as_float32(columns["actions"])[kept],
        "rewards": as_float32(columns["rewards"])[kept],
        "terminals": terminals[kept],
        "timeouts": (ends_next & ~terminals[:-1])[kept],
        "next_observations": observations[kept + 1],
    }


def as_float32(column: Array) -> Array:
    """Single precision; what overflows becomes infinite, which every dataset refuses."""
    with np.errstate(over="ignore"):
        return np.asarray(column, dtype=np.float32)


def implied_timeouts(terminals: Array, episode_limit: int) -> Array:
    """Where D4RL's step counter reaches the limit in a file that marks no time-outs.

    Its counter restarts at 0 after a time-out but, as it is increased once more in the same turn,
    at 1 after a terminal row.
    """
    cut = np.zeros(len(terminals), dtype=bool)
    start, counted = 0, 0
    for end in (*np.flatnonzero(terminals).tolist(), len(terminals) - 1):
        cut[start + episode_limit - 1 - counted : end + 1 : episode_limit] = True
        start, counted = end + 1, 0 if end < len(cut) and cut[end] else 1
    return cut
