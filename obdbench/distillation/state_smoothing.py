r"""Gaussian noise added to the dataset states that the objective sees.

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

import numpy as np

from obdbench.datasets.dataset import Dataset, SmoothedDataset

NOISE_STREAM = 6


def smooth_states(dataset: Dataset, noise_scale: float) -> Dataset:
    """Return the dataset with noise added to its states and its standardizer unchanged."""
    if not noise_scale:
        return dataset
    rng = np.random.default_rng([0, NOISE_STREAM])
    standard_noise = np.asarray(rng.standard_normal(dataset.observations.shape, dtype=np.float32))
    noise = standard_noise * (np.float32(noise_scale) * dataset.standardizer.scale)
    content = {item.name: getattr(dataset, item.name) for item in fields(Dataset)}
    content["observations"] = dataset.observations + noise
    return SmoothedDataset(**content, reference=dataset)
