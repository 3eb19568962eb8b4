r"""Which noisy rollouts, taken together, look like a dataset of which only moments are known.

Every rollout follows a teacher under its own disturbance, drawn once an episode. Of many such
episodes a subset is chosen by bounded least squares: with :math:`z` the observations in units of
the wanted moments, :math:`\ell_i` the length of episode :math:`i` and weights :math:`w` of
episodes,

.. math::

    \min_{0 \le w \le 1} \Big\| \tfrac1n \sum_i w_i \sum_{t \in i} (z_t, z_t^2) - (0, 1) \Big\|^2
    + \rho\,\big(\tfrac1n \textstyle\sum_i w_i \ell_i - 1\big)^2
    + \lambda \sum_i \frac{\ell_i}{\sum_j \ell_j} (w_i - \bar w)^2

so that mean and spread of each coordinate come out right, ``n`` transitions are taken, and no
episode counts more than it must. Accelerated projected gradient solves it (Beck and Teboulle,
2009, FISTA).
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
    """What is done to a teacher's actions, one row a slot.

    ``random`` is the share of steps at which a uniformly random action replaces the teacher's, as
    far as ``hold`` allows, the mean number of steps for which it is repeated
    (:class:`DisturbedTeacher`); ``temperature`` scales the teacher's spread,
    ``gain`` its mean before the tanh, and ``offset`` is added to every action.
    """

    random: Array
    hold: Array
    temperature: Array
    gain: Array
    offset: Array

    @classmethod
    def draw(cls, slots: int, action_size: int, rng: np.random.Generator) -> Disturbance:
        """Of each kind of disturbance none in most slots, mild or strong in the others."""

        def mostly(share: float, usual: float, otherwise: Array) -> Array:
            return np.where(rng.random(slots) < share, usual, otherwise)

        bounds = rng.choice([0.1, 0.3, 0.6, 1.0], p=[0.25, 0.25, 0.15, 0.35], size=slots)
        offset_scale = mostly(0.6, 0.0, rng.uniform(0, 0.6, slots))
        return cls(
            random=np.minimum(mostly(0.4, 0.0, bounds * rng.random(slots)), 0.99),
            hold=mostly(0.7, 1.0, rng.uniform(1, 20, slots)),
            temperature=mostly(0.6, 1.0, rng.uniform(0, 3, slots)),
            gain=mostly(0.6, 1.0, rng.uniform(0, 1.5, slots)),
            offset=offset_scale[:, None] * rng.standard_normal((slots, action_size)),
        )

    @classmethod
    def calm(cls, slots: int, action_size: int, rng: np.random.Generator) -> Disturbance:
        """Nothing but less noise than the teacher's own."""
        ones, zeros = np.ones(slots), np.zeros(slots)
        return cls(zeros, ones, rng.random(slots), ones, np.zeros((slots, action_size)))

    @classmethod
    def limp(cls, slots: int, action_size: int, rng: np.random.Generator) -> Disturbance:
        """An offset on one joint: who drags a leg visits what the sound never do."""
        ones, offset = np.ones(slots), np.zeros((slots, action_size))
        joints = rng.permutation(slots) % action_size
        offset[np.arange(slots), joints] = rng.uniform(-1, 1, slots)
        return cls(np.zeros(slots), ones, ones, ones, offset)

    @classmethod
    def stack(cls, parts: Sequence[Disturbance]) -> Disturbance:
        """One after the other."""
        names = [each.name for each in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def row(self, slot: int) -> Disturbance:
        """The disturbance of one slot."""
        return Disturbance(*(getattr(self, each.name)[slot : slot + 1] for each in fields(self)))

    def __len__(self) -> int:
        return len(self.random)


class DisturbedTeacher:
    """Acts for all slots of a rollout; an ``act`` for :func:`obdbench.tasks.rollout.run_episodes`.

    Random actions come in stretches: a two-state chain leaves the random state with probability
    ``1 / hold`` and enters it so that it is in it for the share ``random`` of the steps, or for
    ``hold / (hold + 1)`` of them where that is less, since a stretch never follows on another.
    """

    def __init__(self, teacher: Teacher, noise: Disturbance, rng: np.random.Generator) -> None:
        self.teacher, self.noise, self.rng = teacher, noise, rng
        self.is_random = np.zeros(len(noise), dtype=bool)
        self.held = np.zeros(noise.offset.shape)

    def __call__(self, observations: Array, slots: Array) -> Array:
        """The disturbed actions of the slots still running."""
        noise, shape = self.noise, (len(slots), self.teacher.action_size)
        mean, std = (x.detach().numpy() for x in self.teacher.distribution(observations))
        spread = noise.temperature[slots, None] * std * self.rng.standard_normal(shape)
        actions = np.tanh(noise.gain[slots, None] * mean + spread) + noise.offset[slots]

        leave = 1 / noise.hold[slots]
        enter = noise.random[slots] / (1 - noise.random[slots]) * leave
        was_random, coin = self.is_random[slots], self.rng.random(len(slots))
        now_random = np.where(was_random, coin >= leave, coin < enter)
        renew = now_random & (~was_random | (noise.hold[slots] == 1))
        fresh = self.rng.uniform(-1, 1, shape)
        self.held[slots] = np.where(renew[:, None], fresh, self.held[slots])
        self.is_random[slots] = now_random
        actions = np.where(now_random[:, None], self.held[slots], actions)
        return np.asarray(np.clip(actions, -1, 1), dtype=np.float32)


def moment_sums(episodes: Sequence[Array], wanted: Standardizer) -> Array:
    """Per episode, the sums over time of ``z`` and ``z**2`` in units of the wanted moments."""
    rows = []
    for observations in episodes:
        z = (observations.astype(np.float64) - wanted.mean) / wanted.std
        rows.append(np.concatenate([z.sum(axis=0), np.square(z).sum(axis=0)]))
    return np.stack(rows)


def select(sums: Array, lengths: Array, size: int) -> Array:
    """Indices of episodes of about ``size`` transitions with the wanted moments.

    Weights are rounded to 0 and 1; then an episode is put in or out, or one exchanged for another,
    as long as that lowers the least-squares objective.
    """
    rows, goal = _problem(sums, lengths, size)
    taken = _rounded(_weights(rows, goal, lengths, size), lengths, size)
    products = rows.T @ rows
    for _ in range(EXCHANGES):
        change = 1 - 2 * taken
        single = change * 2 * (rows.T @ (rows @ taken - goal)) + products.diagonal()
        both = single[:, None] + single[None, :] + 2 * products * np.outer(change, change)
        np.fill_diagonal(both, single)
        i, j = np.unravel_index(np.argmin(both), both.shape)
        if both[i, j] >= -LEAST_GAIN:
            break
        taken[[i, j]] = 1 - taken[[i, j]]
    return np.flatnonzero(taken)


def most_wanted(sums: Array, lengths: Array, size: int, count: int) -> Array:
    """Indices of the episodes whose like would lower the objective most."""
    rows, goal = _problem(sums, lengths, size)
    slope = rows.T @ (rows @ _weights(rows, goal, lengths, size) - goal)
    return np.argsort(slope, kind="stable")[:count]


def _problem(sums: Array, lengths: Array, size: int) -> tuple[Array, Array]:
    """The least squares without bounds: what each episode adds, and what shall come out."""
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
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        point = moved + (momentum - 1) / following * (moved - weights)
        weights, momentum = moved, following
    return np.asarray(weights)


def _rounded(weights: Array, lengths: Array, size: int) -> Array:
    """1 for the episodes of largest weight that reach ``size`` transitions, 0 for the others."""
    order = np.argsort(-weights, kind="stable")
    enough = int(np.searchsorted(np.cumsum(lengths[order]), size)) + 1
    taken = np.zeros(len(weights))
    taken[order[:enough]] = 1
    return taken
