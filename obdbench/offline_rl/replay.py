"""Transitions of several datasets as tensors, with the return of the data from each row on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from obdbench.datasets.dataset import Array, Dataset, episode_ends, require_next_observations
from obdbench.offline_rl.algorithm import Batch, RewardScaling, Shape
from obdbench.teachers.teacher import Teacher

MEAN_RETURN, RETURN_RANGE = 10.0, 1000.0


class Replay:
    """Transitions of D datasets of one task, of which batches are drawn side by side.

    ``reward_bias`` is added to every reward. Then rewards are divided by one factor per dataset,
    which :attr:`reward_scales` holds; it is 1 with the ``scaling`` "none". With "mean return", the
    mean absolute discounted return becomes :data:`MEAN_RETURN`. With "return range", the
    undiscounted returns of the episodes span :data:`RETURN_RANGE`; data whose episodes all have one
    return are scaled by the mean return. ``held_out`` of the rows are left out of training, for
    statistics. With ``policy``, batches contain its actions in the next states.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        discount: float,
        *,
        held_out: float,
        seed: int,
        reward_bias: float = 0.0,
        policy: Teacher | None = None,
        scaling: RewardScaling = "mean return",
    ) -> None:
        first = datasets[0]
        self.policy_action_size = 0 if policy is None else policy.action_size
        self.shape = Shape(len(datasets), first.observation_size, first.action_size)
        self.reward_scales: list[float] = []
        self.training: list[Tensor] = []
        self.held_out: list[Tensor] = []
        for index, dataset in enumerate(datasets):
            table, scale = _table(dataset, discount, reward_bias, policy, scaling)
            rows = np.random.default_rng([seed, 4, index]).permutation(len(table))
            cut = round(held_out * len(table))
            self.training.append(table[np.sort(rows[cut:])].contiguous())
            self.held_out.append(table[np.sort(rows[:cut])].contiguous())
            self.reward_scales.append(scale)

    @cached_property
    def checksums(self) -> list[str]:
        """SHA-256 over the training rows of each dataset."""
        return [hashlib.sha256(table.numpy().data).hexdigest() for table in self.training]

    def draw(self, size: int, generator: torch.Generator) -> Batch:
        """The same number of rows of each dataset, with replacement."""
        rows = [
            table[torch.randint(len(table), (size,), generator=generator)]
            for table in self.training
        ]
        return self.split(torch.stack(rows))

    def split(self, rows: Tensor) -> Batch:
        """Columns of rows of shape (D, N, columns)."""
        state, action = self.shape.observation_size, self.shape.action_size
        sizes = [state, action, state, 1, 1, 1, self.policy_action_size]
        parts = torch.split(rows, sizes, dim=-1)
        states, actions, next_states, rewards, continues, returns, policy_actions = parts
        return Batch(
            states.contiguous(),
            actions.contiguous(),
            rewards.squeeze(-1),
            next_states.contiguous(),
            continues.squeeze(-1),
            returns.squeeze(-1),
            policy_actions.contiguous(),
        )


def _table(
    dataset: Dataset,
    discount: float,
    reward_bias: float,
    policy: Teacher | None,
    scaling: RewardScaling,
) -> tuple[Tensor, float]:
    next_observations = require_next_observations(dataset, "offline RL")
    rewards = np.asarray(dataset.rewards, np.float64) + reward_bias
    returns = returns_to_go(dataset, rewards, discount)
    scale = 1.0 if scaling == "none" else 0.0
    if scaling == "return range":
        scale = return_range(dataset, rewards) / RETURN_RANGE
    scale = scale or max(float(np.abs(returns).mean()) / MEAN_RETURN, 1e-8)
    columns = [
        dataset.states,
        dataset.actions,
        dataset.standardizer.apply(next_observations),
        rewards[:, None] / scale,
        1.0 - dataset.terminals[:, None],
        returns[:, None] / scale,
    ]
    if policy is not None:
        columns.append(policy.act(next_observations))
    return torch.from_numpy(np.concatenate(columns, axis=1, dtype=np.float32)), scale


def return_range(dataset: Dataset, rewards: Array) -> float:
    """Largest minus smallest undiscounted return of the episodes."""
    totals = np.cumsum(rewards)[last_rows(dataset)]
    return float(np.ptp(np.diff(totals, prepend=0.0)))


def last_rows(dataset: Dataset) -> Array:
    """Index of the last row of each episode; next observations count only without time-outs."""
    observations = dataset.observations if dataset.timeouts is None else None
    ends = episode_ends(
        dataset.terminals, dataset.timeouts, observations, dataset.next_observations
    )
    ends[-1] = True
    return np.flatnonzero(ends)


def returns_to_go(dataset: Dataset, rewards: Array, discount: float) -> Array:
    r"""Discounted sum of the rewards in the data from each row on, :math:`V^\mu`.

    Beyond a time-out it is continued with the mean reward of the last :math:`1/(1-\gamma)` steps.
    """
    terminals = np.asarray(dataset.terminals, dtype=bool)
    horizon = round(1.0 / (1.0 - discount))
    values = np.empty(len(dataset))
    first = 0
    for last in last_rows(dataset).tolist():
        episode = rewards[first : last + 1]
        tail = 0.0 if terminals[last] else float(episode[-horizon:].mean()) / (1.0 - discount)
        values[first : last + 1] = _discounted_sums(episode, discount, tail)
        first = last + 1
    return values.astype(np.float32)


def _discounted_sums(rewards: Array, discount: float, tail: float) -> Array:
    """Discounted sum from each step to the end, plus the discounted ``tail`` behind the end."""
    sums, _ = lfilter([1.0], [1.0, -discount], rewards[::-1], zi=[discount * tail])
    return np.asarray(sums[::-1])
