"""The states of the dataset with Gaussian noise (:mod:`obdbench.distillation.state_smoothing`)."""

from __future__ import annotations

from typing import ClassVar

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.state_smoothing import smooth_states
from obdbench.distillation.state_sources.state_source import StateSource


class SmoothedStates(StateSource):
    """The states of the dataset with noise of scale ``smoothing``."""

    name: ClassVar[str] = "smoothed"

    def fixed_dataset(self) -> Dataset:
        """Return the dataset with noise on its states; with scale zero it is the dataset itself."""
        return smooth_states(self.dataset, self.settings.smoothing)
