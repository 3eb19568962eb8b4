"""The states of the dataset without noise, as in the published objectives."""

from __future__ import annotations

from typing import ClassVar

from obdbench.distillation.state_sources.state_source import StateSource


class DataStates(StateSource):
    """The states of the dataset; ``smoothing`` has no effect on them."""

    name: ClassVar[str] = "data"
