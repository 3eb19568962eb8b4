"""Episodes of any environment with box observations and actions, stepped through Gymnasium.

Each slot has its own environment.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from math import isfinite
from typing import Any

import gymnasium
import numpy as np

from obdbench.errors import InvalidDataError, InvalidSettingError, ObdError, first_line
from obdbench.tasks.action_bounds import Bounds, to_environment_actions
from obdbench.tasks.task import Task

Array = np.ndarray[Any, np.dtype[Any]]


class GymnasiumSlots:
    """Environments of one task, with the interface of :class:`~.simulator.Simulator`.

    Every call of :meth:`step` advances all slots whose episode goes on.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.environments: list[Any] = []
        self.seeds: list[int] = []
        self.steps = 0
        self.truncations = np.zeros(0, bool)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Begin one episode per seed."""
        while len(self.environments) < len(seeds):
            environment = self.task.make_environment or self.task.env_id
            env = make_from(self.task.name, environment)
            spaces = describe_spaces(self.task.name, env)[:2]
            if spaces != (self.task.observation_size, self.task.action_size):
                raise InvalidDataError(
                    f"The environment of {self.task.name!r} has the sizes {spaces}, not "
                    f"{(self.task.observation_size, self.task.action_size)}.",
                    "Check the version of its package.",
                )
            self.environments.append(env)
        self.seeds = [int(seed) for seed in seeds]
        self.steps = 0
        self.truncations = np.zeros(len(seeds), bool)
        observations = []
        for slot, seed in enumerate(self.seeds):
            try:
                observations.append(self.environments[slot].reset(seed=seed)[0])
            except Exception as error:
                raise self._environment_error(slot, "reset", error) from error
        return np.asarray(observations, np.float64).reshape(-1, self.task.observation_size)

    def step(self, slots: Array, actions: Array) -> tuple[Array, Array, Array]:
        """Advance the given slots; returns next observations, rewards and terminations."""
        observations = np.empty((len(slots), self.task.observation_size))
        rewards: list[float] = []
        terminations: list[bool] = []
        truncations: list[bool] = []
        actions = to_environment_actions(self.task, actions)
        environments, slot = self.environments, -1
        try:
            for slot, observation, action in zip(
                slots.tolist(), observations, actions, strict=True
            ):
                step = environments[slot].step
                observation[:], reward, terminated, truncated, _ = step(action)
                rewards.append(reward)
                terminations.append(terminated)
                truncations.append(truncated)
        except Exception as error:
            raise self._environment_error(slot, f"step {self.steps + 1}", error) from error
        self.steps += 1
        if any(truncations):
            self.truncations[slots] = truncations
        total = sum(rewards) + float(observations.sum())  # not finite if one of them is not
        if not (isfinite(total) or _all_finite(rewards, observations)):
            raise InvalidDataError(
                f"The environment of {self.task.name!r} returned a reward or an observation that "
                "is not finite.",
                "Fix the environment.",
            )
        return observations, np.array(rewards, np.float64), np.array(terminations, bool)

    def truncated(self, slots: Array) -> Array:
        """Whether the environment cut off the episode of each slot at its last step."""
        return self.truncations[slots]

    def _environment_error(self, slot: int, moment: str, error: Exception) -> InvalidDataError:
        """One line for an exception of an environment, which is closed: its state is unknown."""
        close(self.environments.pop(slot))
        return InvalidDataError(
            f"The environment of {self.task.name!r} raised {type(error).__name__} at {moment} "
            f"of the episode with seed {self.seeds[slot]}: {first_line(error)}.",
            "Fix the environment.",
        )


def _all_finite(rewards: Sequence[float], observations: Array) -> bool:
    return bool(np.isfinite(rewards).all() and np.isfinite(observations).all())


def make_from(name: str, environment: str | Callable[[], Any]) -> Any:
    """The environment of a task, without advice to use ``v5``; every failure is one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*is out of date", category=DeprecationWarning
            )
            if callable(environment):
                return environment()
            spec = copy(gymnasium.registry.get(environment))
            if spec is not None:  # else Gymnasium imports a module or finds the latest version
                spec.order_enforce = False  # every episode begins with a reset
            return gymnasium.make(spec or environment, disable_env_checker=True)
    except Exception as error:
        raise InvalidSettingError(
            f"The environment of the task {name!r} cannot be created: {type(error).__name__}: "
            f"{first_line(error)}.",
            "Check its identifier and whether its package is installed.",
        ) from error


def close(env: Any) -> None:
    """Close an environment that is not needed anymore, whatever it raises."""
    with suppress(Exception):
        env.close()


def describe_spaces(name: str, env: Any) -> tuple[int, int, Bounds | None]:
    """Sizes of observations and actions, and the bounds of actions unless they are -1 and 1."""
    try:
        for kind in ("observation", "action"):
            space = getattr(env, f"{kind}_space")
            if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
                raise InvalidSettingError(
                    f"The environment of {name!r} has the {kind} space {space}.",
                    f"Only vectors of numbers are supported: a Box {kind} space of one dimension.",
                )
        low, high = env.action_space.low, env.action_space.high
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InvalidSettingError(
                f"The environment of {name!r} has unbounded actions.",
                "Wrap it in gymnasium.wrappers.ClipAction or RescaleAction.",
            )
    except AttributeError as error:
        raise InvalidSettingError(
            f"The environment of {name!r} is a {type(env).__name__}, not a Gymnasium environment.",
            "Return a gymnasium.Env.",
        ) from error
    except ObdError:
        close(env)
        raise
    is_unit = bool((low == -1.0).all() and (high == 1.0).all())
    bounds = None if is_unit else (tuple(map(float, low)), tuple(map(float, high)))
    return int(env.observation_space.shape[0]), int(env.action_space.shape[0]), bounds
