r"""A coreset by orthogonal matching pursuit on gradients, after ReDOR (arXiv 2502.18955).

Pairs are chosen so that a combination of their gradients matches the mean gradient of the data,

.. math:: \min_{S, w} \Big\lVert \tfrac1n \sum_i g_i - \sum_{j \in S} w_j g_j \Big\rVert^2,

greedily: the next pair has the largest absolute inner product with the residual, then the weights
of all chosen pairs are solved by least squares. :math:`g_i` is the gradient of the cloning loss of
pair i in the output layer's means of an untrained student. ReDOR (Yang et al., 2025) takes
gradients of temporal-difference losses over the training of an actor and a critic, and weighs the
chosen transitions; students here are cloned on unweighted pairs, so that only the choice remains.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from obdbench.datasets.dataset import Array, Dataset
from obdbench.policies.networks import MLP4, seeded_generator, stacked_linear
from obdbench.selection.selection_method import SelectionMethod
from obdbench.teachers.teacher import Teacher

CANDIDATES = 10_000


class GradientMatchingPursuit(SelectionMethod):
    """Pairs whose gradients span the mean gradient of the data."""

    name: ClassVar[str] = "omp"

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows chosen by matching pursuit among at most 10,000 candidates."""
        count = min(len(dataset), max(CANDIDATES, pairs))
        candidates = np.sort(rng.choice(len(dataset), count, replace=False))
        gradients = cloning_gradients(
            dataset.states[candidates], dataset.actions[candidates], int(rng.integers(2**31))
        )
        return np.asarray(candidates[pursue(gradients, pairs)])


@torch.no_grad()
def cloning_gradients(states: Array, actions: Array, seed: int) -> Array:
    """Gradients of each pair's cloning loss in the output weights of one random student."""
    inputs = torch.from_numpy(np.asarray(states, np.float32)).unsqueeze(0)
    labels = torch.from_numpy(np.asarray(actions, np.float32))
    size = labels.shape[-1]
    params = MLP4.init([seeded_generator(seed, 1)], inputs.shape[-1], size)
    hidden = inputs
    for index in range(MLP4.depth - 1):
        hidden = torch.relu(stacked_linear(params, index, hidden))
    predicted = torch.tanh(stacked_linear(params, MLP4.depth - 1, hidden)[0, :, :size])
    slopes = 2.0 / size * (predicted - labels) * (1.0 - predicted.square())
    features = torch.cat([hidden[0], torch.ones(len(labels), 1)], dim=1)
    return np.asarray(torch.einsum("na,nh->nah", slopes, features).flatten(1).numpy())


def pursue(gradients: Array, count: int) -> Array:
    """Row indices chosen by orthogonal matching pursuit for the mean of the rows.

    An orthonormal basis of the chosen rows is extended by Gram-Schmidt, which makes the residual
    orthogonal to all of them as the least-squares weights do. Once the residual vanishes, the rows
    with the largest component outside the basis follow.
    """
    rows = np.asarray(gradients, np.float64)
    target = rows.mean(axis=0)
    residual = target.copy()
    outside = np.square(rows).sum(axis=1)  # squared norms of the components outside the basis
    tolerance = 1e-10 * max(float(np.linalg.norm(target)), 1e-300)
    basis = np.zeros((0, rows.shape[1]))
    chosen: list[int] = []
    available = np.ones(len(rows), dtype=bool)
    for _ in range(count):
        vanished = float(np.linalg.norm(residual)) <= tolerance
        score = outside.copy() if vanished else np.abs(rows @ residual)
        score[~available] = -1.0
        index = int(np.argmax(score))
        chosen.append(index)
        available[index] = False
        direction = rows[index]
        for _ in range(2):  # the second pass removes rounding errors of the first
            direction = direction - basis.T @ (basis @ direction)
        norm = float(np.linalg.norm(direction))
        if norm > 1e-9 * max(float(np.linalg.norm(rows[index])), 1e-300):
            unit = direction / norm
            basis = np.vstack([basis, unit])
            residual = residual - (residual @ unit) * unit
            outside = np.maximum(outside - np.square(rows @ unit), 0.0)
    return np.asarray(chosen)
