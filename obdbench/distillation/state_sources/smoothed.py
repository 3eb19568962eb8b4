r"""The states of the dataset with Gaussian noise, which the objective sees.

.. math:: \tilde s = s + \sigma\, (\mathrm{std} + 10^{-3}) \odot \varepsilon, \qquad
          \varepsilon \sim \mathcal N(0, I)

A student's small errors lead it to states near the data where the unsmoothed objective constrains
nothing. With noise added to the states, the teacher is also queried around the data, as noise
injection does for behavioral cloning (Laskey et al., 2017, arXiv 1703.09327; Bishop, 1995,
"Training with noise is equivalent to Tikhonov regularization"). The noise is drawn once per
dataset, so an objective prepares its columns once, and teacher actions, action values and densities
are those of the smoothed states. The actions of the dataset are unchanged.
"""

from __future__ import annotations

from dataclasses import fields
from typing import ClassVar

import numpy as np

from obdbench.datasets.dataset import Dataset, SmoothedDataset
from obdbench.distillation.random_streams import SMOOTHING_STREAM
from obdbench.distillation.state_sources.state_source import StateSource


class SmoothedStates(StateSource):
    """The states of the dataset with noise of scale ``smoothing``."""

    name: ClassVar[str] = "smoothed"

    def fixed_dataset(self) -> Dataset:
        """Return the dataset with noise on its states; with scale zero it is the dataset itself."""
        return smooth_states(self.dataset, self.settings.smoothing)


def smooth_states(dataset: Dataset, noise_scale: float) -> Dataset:
    """Return the dataset with noise added to its states and its standardizer unchanged."""
    if not noise_scale:
        return dataset
    rng = np.random.default_rng([0, SMOOTHING_STREAM])
    standard_noise = np.asarray(rng.standard_normal(dataset.observations.shape, dtype=np.float32))
    noise = standard_noise * (np.float32(noise_scale) * dataset.standardizer.scale)
    content = {item.name: getattr(dataset, item.name) for item in fields(Dataset)}
    content["observations"] = dataset.observations + noise
    return SmoothedDataset(**content, reference=dataset)
