"""No two uses of random numbers have the same stream."""

from __future__ import annotations

from obdbench.distillation import random_streams


def test_streams_are_distinct():
    streams = {name: n for name, n in vars(random_streams).items() if name.endswith("_STREAM")}
    assert len(set(streams.values())) == len(streams) > 1
    assert 0 not in streams.values()  # a trailing zero does not change a generator
