"""The better half of an embedded dataset: its episodes with at least the median return.

A loader takes the identifier it was registered under and returns a :class:`obdbench.Dataset`.
"""

from __future__ import annotations

import numpy as np

import obdbench

SOURCE = "better-half/"


def load(dataset_id: str) -> obdbench.Dataset:
    """``better-half/hopper-medium-v0`` out of ``embedded/hopper-medium-v0``."""
    whole = obdbench.load_dataset(f"embedded/{dataset_id.removeprefix(SOURCE)}")
    ends = np.asarray(whole.terminals, bool)
    if whole.timeouts is not None:
        ends = ends | np.asarray(whole.timeouts, bool)
    episode = np.concatenate([[0], np.cumsum(ends)[:-1]])
    returns = np.bincount(episode, weights=whole.rewards)
    kept = (returns >= np.median(returns))[episode]
    return obdbench.Dataset(
        id=dataset_id,
        task=whole.task,
        observations=whole.observations[kept],
        actions=whole.actions[kept],
        rewards=whole.rewards[kept],
        terminals=whole.terminals[kept],
        timeouts=None if whole.timeouts is None else whole.timeouts[kept],
        card={"made_from": whole.id, "made_from_checksum": whole.checksum},
    )
