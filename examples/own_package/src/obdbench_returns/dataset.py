"""The better half of an embedded dataset: episodes with at least the median return.

A loader receives the identifier under which it is registered and returns a
:class:`obdbench.Dataset`.
"""

from __future__ import annotations

import numpy as np

import obdbench

SOURCE = "better-half/"


def load(dataset_id: str) -> obdbench.Dataset:
    """Load ``better-half/hopper-medium-v1``, a part of ``embedded/hopper-medium-v1``."""
    whole = obdbench.load_dataset(f"embedded/{dataset_id.removeprefix(SOURCE)}")
    ends = np.asarray(whole.terminals, bool)
    if whole.timeouts is not None:
        ends = ends | np.asarray(whole.timeouts, bool)
    episode = np.concatenate([[0], np.cumsum(ends)[:-1]])
    returns = np.bincount(episode, weights=whole.rewards)
    selected = (returns >= np.median(returns))[episode]
    return obdbench.Dataset(
        id=dataset_id,
        task=whole.task,
        observations=whole.observations[selected],
        actions=whole.actions[selected],
        rewards=whole.rewards[selected],
        terminals=whole.terminals[selected],
        timeouts=None if whole.timeouts is None else whole.timeouts[selected],
        card={"made_from": whole.id, "made_from_checksum": whole.checksum},
    )
