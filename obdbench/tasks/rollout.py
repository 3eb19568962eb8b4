"""Rollouts of many episodes at once: one forward pass gives the actions of all running episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from obdbench.errors import InvalidDataError
from obdbench.tasks.simulator import Array, get_simulator
from obdbench.tasks.task import Task

ActFunction = Callable[[Array, Array], Array]
COLUMNS = {
    "observations": np.float32,
    "actions": np.float32,
    "rewards": np.float32,
    "terminals": np.bool_,
    "next_observations": np.float32,
}


@dataclass(frozen=True)
class Episodes:
    """Episodes in the order of their seeds; ``columns`` holds recorded steps, episode by episode.

    ``terminals`` marks the step at which the task ends an episode; an episode without one reaches
    the time limit. ``next_observations`` includes the observation after the last step.
    """

    returns: Array
    lengths: Array
    columns: dict[str, Array] = field(default_factory=dict)

    def split(self, column: str) -> list[Array]:
        """One array of a recorded column per episode."""
        return np.split(self.columns[column], np.cumsum(self.lengths)[:-1])


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
    steps: list[tuple[Array, ...]] = []
    for _ in range(task.episode_limit):
        if not len(active):
            break
        actions = _check_actions(act(observations, active), (len(active), task.action_size))
        next_observations, rewards, ended = simulator.step(active, actions)
        returns[active] += rewards
        lengths[active] += 1
        if record:
            steps.append((active, observations, actions, rewards, ended, next_observations))
        running = ~(ended | simulator.truncated(active))
        active, observations = active[running], next_observations[running]
    return Episodes(returns, lengths, _columns(steps))


def deterministic_returns(
    policies: Sequence[Callable[[Array], Array]], task: Task, episodes: int
) -> Array:
    """Returns of each policy, shape (policy, episode); all start from the same initial states."""
    seeds = list(range(episodes)) * len(policies)

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


def _columns(steps: list[tuple[Array, ...]]) -> dict[str, Array]:
    """Regroup steps of all slots, which begin with the slots' numbers, by episode."""
    if not steps:
        return {}
    slots, *columns = (np.concatenate(parts) for parts in zip(*steps, strict=True))
    order = np.argsort(slots, kind="stable")
    return {
        name: column[order].astype(dtype, copy=False)
        for (name, dtype), column in zip(COLUMNS.items(), columns, strict=True)
    }
