"""Rollouts of many episodes at once: one forward pass gives the actions of all running episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from obdbench.errors import InvalidDataError
from obdbench.tasks.simulator import Array, get_simulator
from obdbench.tasks.task import Task

ActFunction = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Episodes:
    """Episodes in the order of their seeds; the lists contain one array per recorded episode.

    ``terminals`` marks the step at which the task ends an episode; an episode without one reaches
    the time limit. ``next_observations`` includes the observation after the last step.
    """

    returns: Array
    lengths: Array
    observations: list[Array] = field(default_factory=list)
    actions: list[Array] = field(default_factory=list)
    rewards: list[Array] = field(default_factory=list)
    terminals: list[Array] = field(default_factory=list)
    next_observations: list[Array] = field(default_factory=list)


@dataclass(frozen=True)
class _Step:
    slots: Array
    observations: Array
    actions: Array
    rewards: Array
    terminals: Array
    next_observations: Array


def run_episodes(
    act: ActFunction,
    task: Task,
    seeds: Sequence[int],
    *,
    record: bool = False,
) -> Episodes:
    """Run one episode per seed, all at once.

    ``act(observations, slots)`` is called once per step with the raw ``float64`` observations of
    the running slots (slot ``i`` starts from ``seeds[i]``) and returns their actions between -1 and
    1. Rewards and ends are equal bit for bit to those of a single Gymnasium environment with
    ``float32`` actions.
    """
    simulator = get_simulator(task)
    active = np.arange(len(seeds))
    observations = simulator.reset(seeds)
    returns = np.zeros(len(seeds))
    lengths = np.zeros(len(seeds), dtype=np.int64)
    history: list[_Step] = []
    for _ in range(task.episode_limit):
        if not len(active):
            break
        actions = _check_actions(act(observations, active), (len(active), task.action_size))
        next_observations, rewards, ended = simulator.step(active, actions)
        returns[active] += rewards
        lengths[active] += 1
        if record:
            history.append(_Step(active, observations, actions, rewards, ended, next_observations))
        running = ~(ended | simulator.truncated(active))
        active, observations = active[running], next_observations[running]
    if not record:
        return Episodes(returns, lengths)
    return _split_episodes(history, returns, lengths)


def deterministic_returns(
    policies: Sequence[Callable[[Array], Array]], task: Task, episodes: int, first_seed: int = 0
) -> Array:
    """Returns of each policy, shape (policy, episode); all start from the same initial states."""
    seeds = list(range(first_seed, first_seed + episodes)) * len(policies)

    def act(observations: Array, slots: Array) -> Array:
        actions = np.empty((len(slots), task.action_size), np.float32)
        for index, policy in enumerate(policies):
            own_slots = slots // episodes == index
            if own_slots.any():
                actions[own_slots] = policy(observations[own_slots])
        return actions

    return run_episodes(act, task, seeds).returns.reshape(len(policies), episodes)


def _check_actions(actions: Array, shape: tuple[int, int]) -> Array:
    actions = np.asarray(actions, dtype=np.float32)
    if actions.shape != shape:
        raise InvalidDataError(
            f"A policy returned actions of shape {actions.shape} where {shape} are needed.",
            "It must take observations of shape (k, n) and return actions of shape (k, m).",
        )
    if not np.isfinite(actions).all():
        raise InvalidDataError(
            "A policy returned actions that are not finite.",
            "Its parameters have diverged; lower the learning rate it was trained with.",
        )
    return actions


def _split_episodes(steps: list[_Step], returns: Array, lengths: Array) -> Episodes:
    """Regroup steps of all slots into episodes."""
    slots = np.concatenate([step.slots for step in steps]) if steps else np.empty(0, np.int64)
    order, boundaries = np.argsort(slots, kind="stable"), np.cumsum(lengths)[:-1]

    def by_episode(name: str, dtype: type) -> list[Array]:
        if not steps:
            return []
        rows = np.concatenate([getattr(step, name) for step in steps])
        return np.split(rows[order].astype(dtype, copy=False), boundaries)

    return Episodes(
        returns,
        lengths,
        observations=by_episode("observations", np.float32),
        actions=by_episode("actions", np.float32),
        rewards=by_episode("rewards", np.float32),
        terminals=by_episode("terminals", np.bool_),
        next_observations=by_episode("next_observations", np.float32),
    )
