r"""Selection of noisy rollouts that together have the published moments of a dataset.

Every rollout follows a teacher under a disturbance that is drawn once per episode. Bounded least
squares select a subset of many such episodes: with :math:`z` the observations in units of
the target moments, :math:`\ell_i` the length of episode :math:`i` and weights :math:`w` of
episodes,

.. math::

    \min_{0 \le w \le 1} \Big\| \tfrac1n \sum_i w_i \sum_{t \in i} (z_t, z_t^2) - (0, 1) \Big\|^2
    + \rho\,\big(\tfrac1n \textstyle\sum_i w_i \ell_i - 1\big)^2
    + \lambda \sum_i \frac{\ell_i}{\sum_j \ell_j} (w_i - \bar w)^2

so that the mean and standard deviation of each coordinate approach the target, about ``n``
transitions are selected, and the weights stay close to each other. Accelerated projected gradient
solves it (Beck and Teboulle, 2009, FISTA).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from obdbench.datasets.dataset import Array, Standardizer

if TYPE_CHECKING:
    from obdbench.teachers.teacher import Teacher

SIZE_WEIGHT = 100.0
RIDGE = 1e-3
ITERATIONS = 3000
LEAST_GAIN = 1e-6
EXCHANGES = 500


@dataclass(frozen=True)
class Disturbance:
    """Changes to a teacher's actions, one row per slot.

    ``random`` is the share of steps at which a uniformly random action replaces the teacher's;
    ``duration`` is the mean number of steps for which a random action is repeated, and bounds that
    share (:class:`DisturbedTeacher`). ``temperature`` scales the teacher's standard deviation,
    ``gain`` scales its mean before the tanh, and ``offset`` is added to every action.
    """

    random: Array
    duration: Array
    temperature: Array
    gain: Array
    offset: Array

    @classmethod
    def draw(cls, slots: int, action_size: int, rng: np.random.Generator) -> Disturbance:
        """Random disturbances; each kind is absent in most slots."""

        def usually(share: float, usual: float, otherwise: Array) -> Array:
            return np.where(rng.random(slots) < share, usual, otherwise)

        bounds = rng.choice([0.1, 0.3, 0.6, 1.0], p=[0.25, 0.25, 0.15, 0.35], size=slots)
        offset_scale = usually(0.6, 0.0, rng.uniform(0, 0.6, slots))
        return cls(
            random=np.minimum(usually(0.4, 0.0, bounds * rng.random(slots)), 0.99),
            duration=usually(0.7, 1.0, rng.uniform(1, 20, slots)),
            temperature=usually(0.6, 1.0, rng.uniform(0, 3, slots)),
            gain=usually(0.6, 1.0, rng.uniform(0, 1.5, slots)),
            offset=offset_scale[:, None] * rng.standard_normal((slots, action_size)),
        )

    @classmethod
    def low_noise(cls, slots: int, action_size: int, rng: np.random.Generator) -> Disturbance:
        """Less noise than the teacher's own, and no other disturbance."""
        ones, zeros = np.ones(slots), np.zeros(slots)
        return cls(zeros, ones, rng.random(slots), ones, np.zeros((slots, action_size)))

    @classmethod
    def joint_offset(cls, slots: int, action_size: int, rng: np.random.Generator) -> Disturbance:
        """An offset on one joint, which leads to states such as a dragged leg."""
        ones, offset = np.ones(slots), np.zeros((slots, action_size))
        joints = rng.permutation(slots) % action_size
        offset[np.arange(slots), joints] = rng.uniform(-1, 1, slots)
        return cls(np.zeros(slots), ones, ones, ones, offset)

    @classmethod
    def stack(cls, parts: Sequence[Disturbance]) -> Disturbance:
        """Concatenate the rows of several disturbances."""
        names = [column.name for column in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def row(self, slot: int) -> Disturbance:
        """The disturbance of one slot."""
        return Disturbance(
            *(getattr(self, column.name)[slot : slot + 1] for column in fields(self))
        )

    def __len__(self) -> int:
        return len(self.random)


class DisturbedTeacher:
    """A policy with disturbances, for :func:`obdbench.tasks.rollout.run_episodes`.

    A two-state Markov chain selects the steps with random actions. It leaves the random state with
    probability ``1 / duration``, and enters it with the probability that gives the share ``random``
    of the steps, or ``duration / (duration + 1)`` if that is smaller.
    """

    def __init__(self, teacher: Teacher, noise: Disturbance, rng: np.random.Generator) -> None:
        self.teacher, self.noise, self.rng = teacher, noise, rng
        self.is_random = np.zeros(len(noise), dtype=bool)
        self.last_random = np.zeros(noise.offset.shape)

    def __call__(self, observations: Array, slots: Array) -> Array:
        """The disturbed actions of the running slots."""
        noise, shape = self.noise, (len(slots), self.teacher.action_size)
        mean, std = (x.detach().numpy() for x in self.teacher.distribution(observations))
        deviation = noise.temperature[slots, None] * std * self.rng.standard_normal(shape)
        actions = np.tanh(noise.gain[slots, None] * mean + deviation) + noise.offset[slots]

        leave = 1 / noise.duration[slots]
        enter = noise.random[slots] / (1 - noise.random[slots]) * leave
        was_random, coin = self.is_random[slots], self.rng.random(len(slots))
        now_random = np.where(was_random, coin >= leave, coin < enter)
        renew = now_random & (~was_random | (noise.duration[slots] == 1))
        new_random = self.rng.uniform(-1, 1, shape)
        self.last_random[slots] = np.where(renew[:, None], new_random, self.last_random[slots])
        self.is_random[slots] = now_random
        actions = np.where(now_random[:, None], self.last_random[slots], actions)
        return np.asarray(np.clip(actions, -1, 1), dtype=np.float32)


def moment_sums(episodes: Sequence[Array], target: Standardizer) -> Array:
    """Per episode, the sums over time of ``z`` and ``z**2`` in units of the target moments."""
    rows = []
    for observations in episodes:
        z = (observations.astype(np.float64) - target.mean) / target.std
        rows.append(np.concatenate([z.sum(axis=0), np.square(z).sum(axis=0)]))
    return np.stack(rows)


def select(sums: Array, lengths: Array, size: int) -> Array:
    """Indices of episodes of about ``size`` transitions with the target moments.

    Weights are rounded to 0 and 1. Then single episodes are added, removed or exchanged as long as
    that lowers the least-squares objective.
    """
    rows, goal = _problem(sums, lengths, size)
    selected = _rounded(_weights(rows, goal, lengths, size), lengths, size)
    products = rows.T @ rows
    for _ in range(EXCHANGES):
        change = 1 - 2 * selected
        single = change * 2 * (rows.T @ (rows @ selected - goal)) + products.diagonal()
        both = single[:, None] + single[None, :] + 2 * products * np.outer(change, change)
        np.fill_diagonal(both, single)
        i, j = np.unravel_index(np.argmin(both), both.shape)
        if both[i, j] >= -LEAST_GAIN:
            break
        selected[[i, j]] = 1 - selected[[i, j]]
    return np.flatnonzero(selected)


def most_useful_episodes(sums: Array, lengths: Array, size: int, count: int) -> Array:
    """Indices of the episodes of which similar ones would lower the objective most."""
    rows, goal = _problem(sums, lengths, size)
    slope = rows.T @ (rows @ _weights(rows, goal, lengths, size) - goal)
    return np.argsort(slope, kind="stable")[:count]


def _problem(sums: Array, lengths: Array, size: int) -> tuple[Array, Array]:
    """The least squares without bounds: the contribution of each episode, and the target."""
    half, root = sums.shape[1] // 2, np.sqrt(SIZE_WEIGHT)
    rows = np.concatenate([sums.T, root * np.asarray(lengths, dtype=np.float64)[None]]) / size
    return rows, np.concatenate([np.zeros(half), np.ones(half), [root]])


def _weights(rows: Array, goal: Array, lengths: Array, size: int) -> Array:
    """The bounded least squares, relaxed to weights between 0 and 1."""
    total = float(np.sum(lengths))
    prior, ridge = min(1.0, size / total), RIDGE * lengths / total
    bound = np.linalg.eigvalsh(rows @ rows.T)[-1] + ridge.max()
    weights = point = np.full(rows.shape[1], prior)
    momentum = 1.0
    for _ in range(ITERATIONS):
        slope = rows.T @ (rows @ point - goal) + ridge * (point - prior)
        moved = np.clip(point - slope / bound, 0.0, 1.0)
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        point = moved + (momentum - 1) / next_momentum * (moved - weights)
        weights, momentum = moved, next_momentum
    return np.asarray(weights)


def _rounded(weights: Array, lengths: Array, size: int) -> Array:
    """1 for the episodes of largest weight with ``size`` transitions in total, 0 for the others."""
    order = np.argsort(-weights, kind="stable")
    enough = int(np.searchsorted(np.cumsum(lengths[order]), size)) + 1
    selected = np.zeros(len(weights))
    selected[order[:enough]] = 1
    return selected
