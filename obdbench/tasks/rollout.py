"""Episodes in lockstep: one forward pass acts for all that are still running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from obdbench.errors import InvalidDataError
from obdbench.tasks.simulator import Array, physics
from obdbench.tasks.task import Task

Act = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Episodes:
    """Episodes in the order of their seeds; the lists hold one array an episode, if recorded.

    ``terminals`` marks the steps at which the task ended the episode; an episode without one was
    cut off by the time limit. ``next_observations`` holds what each step led to, the last too.
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
    act: Act,
    task: Task,
    seeds: Sequence[int],
    *,
    record: bool = False,
    max_steps: int | None = None,
) -> Episodes:
    """Run one episode a seed, all at once.

    ``act(observations, slots)`` is called once a step with the raw ``float64`` observations of
    the slots still running (slot ``i`` began with ``seeds[i]``) and returns their actions. Rewards
    and ends are bit-equal to those of gymnasium's environment stepped alone with ``float32``
    actions.
    """
    world = physics(task)
    limit = task.episode_limit if max_steps is None else min(max_steps, task.episode_limit)
    active = np.arange(len(seeds))
    observations = world.reset(seeds)
    returns = np.zeros(len(seeds))
    lengths = np.zeros(len(seeds), dtype=np.int64)
    history: list[_Step] = []
    for _ in range(limit):
        if not len(active):
            break
        actions = _checked(act(observations, active), (len(active), task.action_size))
        following, rewards, ended = world.step(active, actions)
        returns[active] += rewards
        lengths[active] += 1
        if record:
            history.append(_Step(active, observations, actions, rewards, ended, following))
        active, observations = active[~ended], following[~ended]
    if not record:
        return Episodes(returns, lengths)
    return _collect(history, returns, lengths)


def _checked(actions: Array, shape: tuple[int, int]) -> Array:
    actions = np.asarray(actions, dtype=np.float32)
    if actions.shape != shape:
        raise InvalidDataError(
            f"A policy returned actions of shape {actions.shape} where {shape} are needed.",
            "It takes (k, observation) and returns (k, action).",
        )
    if not np.isfinite(actions).all():
        raise InvalidDataError(
            "A policy returned actions that are not finite.",
            "Its parameters have diverged; lower the learning rate it was trained with.",
        )
    return actions


def _collect(history: list[_Step], returns: Array, lengths: Array) -> Episodes:
    """Turn steps over slots into episodes over time."""
    slots = np.concatenate([step.slots for step in history]) if history else np.empty(0, np.int64)
    order, cuts = np.argsort(slots, kind="stable"), np.cumsum(lengths)[:-1]

    def by_episode(name: str, dtype: type) -> list[Array]:
        if not history:
            return []
        rows = np.concatenate([getattr(step, name) for step in history])
        return np.split(rows[order].astype(dtype, copy=False), cuts)

    return Episodes(
        returns,
        lengths,
        observations=by_episode("observations", np.float32),
        actions=by_episode("actions", np.float32),
        rewards=by_episode("rewards", np.float32),
        terminals=by_episode("terminals", np.bool_),
        next_observations=by_episode("next_observations", np.float32),
    )
