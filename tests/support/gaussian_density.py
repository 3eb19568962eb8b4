"""A state density that needs no fit of a flow."""

from __future__ import annotations

import numpy as np
from scipy.stats import multivariate_normal

from obdbench.datasets.dataset import Array


def gaussian_log_density(train: Array, test: Array) -> Array:
    """Log-density under a full-covariance Gaussian fitted to ``train``."""
    mean, covariance = train.mean(axis=0, dtype=np.float64), np.cov(train.astype(float).T)
    return np.asarray(multivariate_normal(mean, covariance, allow_singular=True).logpdf(test))
