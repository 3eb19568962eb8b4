r"""States that the objective sees, smoothed: every dataset state with Gaussian noise upon it.

.. math:: \tilde s = s + \sigma\, (\mathrm{std} + 10^{-3}) \odot \varepsilon, \qquad
          \varepsilon \sim \mathcal N(0, I)

A student that errs a little leaves the states of the data, and there the objective has told it
nothing. Where the data is narrow this ends its episodes early. Noise upon the states asks the
teacher for its actions around the data as well, as injecting noise does for cloning (Laskey et al.,
2017, arXiv 1703.09327; Bishop, 1995, for noise as a regularizer). The noise is drawn once for a
dataset, so that what an objective prepares is prepared once; everything it prepares (the teacher's
actions, action values, densities) is that of the smoothed states. Actions of the data stay theirs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from obdbench.datasets.dataset import Dataset

STREAM = 6


def smooth_states(dataset: Dataset, spread: float) -> Dataset:
    """The dataset with noise of this spread upon its states, standardized as before."""
    if not spread:
        return dataset
    rng = np.random.default_rng([0, STREAM])
    drawn = np.asarray(rng.standard_normal(dataset.observations.shape, dtype=np.float32))
    noise = drawn * (np.float32(spread) * dataset.standardizer.scale)
    noisy = replace(dataset, observations=dataset.observations + noise)
    noisy.__dict__["standardizer"] = dataset.standardizer  # that of the states students see
    return noisy
