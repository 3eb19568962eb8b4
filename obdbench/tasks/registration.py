"""``obdbench.register_task``: tasks from Gymnasium environments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from obdbench import registry
from obdbench.errors import InvalidSettingError
from obdbench.tasks.gymnasium_environment import close, describe_spaces, make_from
from obdbench.tasks.task import Task


@dataclass(frozen=True)
class EnvironmentTask:
    """A task that is described by its environment, which is created on first use.

    An entry point of the group ``obdbench.tasks`` names such an object or a
    :class:`~obdbench.tasks.task.Task`.
    """

    name: str
    environment: str | Callable[[], Any]
    reference_returns: tuple[float, float] | None = None
    episode_limit: int | None = None

    def __post_init__(self) -> None:
        if self.reference_returns is not None and not (
            len(self.reference_returns) == 2
            and self.reference_returns[0] < self.reference_returns[1]
        ):
            raise InvalidSettingError(
                f"The reference returns of the task {self.name!r} are {self.reference_returns}.",
                "Give the return of a random policy and the larger one of an expert.",
            )

        if self.episode_limit is not None and self.episode_limit < 1:
            raise InvalidSettingError(
                f"The episode limit of the task {self.name!r} is {self.episode_limit}.",
                "Give the number of steps of an episode, at least 1.",
            )

    @property
    def env_id(self) -> str:
        """Gymnasium's identifier; the name of the task if a function creates the environment."""
        return self.environment if isinstance(self.environment, str) else self.name

    def __call__(self) -> Task:
        """The task, with sizes and bounds read from the environment."""
        return self._task

    @cached_property
    def _task(self) -> Task:
        factory = None if isinstance(self.environment, str) else self.environment
        env = make_from(self.name, self.environment)
        observation_size, action_size, bounds = describe_spaces(self.name, env)
        limit = self.episode_limit or getattr(env.spec, "max_episode_steps", None)
        close(env)
        if limit is None:
            raise InvalidSettingError(
                f"The environment of the task {self.name!r} has no time limit.",
                "Register the task with episode_limit=N.",
            )
        random_return, expert_return = self.reference_returns or (None, None)
        return Task(
            name=self.name,
            env_id=self.env_id,
            random_return=random_return,
            expert_return=expert_return,
            observation_size=observation_size,
            action_size=action_size,
            episode_limit=int(limit),
            action_bounds=bounds,
            make_environment=factory,
        )


def register_task(
    name: str,
    environment: str | Callable[[], Any],
    reference_returns: tuple[float, float] | None = None,
    *,
    episode_limit: int | None = None,
    summary: str = "",
) -> EnvironmentTask:
    """Register a Gymnasium environment with box observations and actions as a task.

    Args:
        name: Lower-case name of the task, with which names of datasets begin.
        environment: Gymnasium's identifier, or a function that creates the environment.
        reference_returns: Returns of a random and an expert policy; scores are raw without them.
        episode_limit: Steps of an episode, if the environment states no limit.
        summary: One line for ``obdbench list tasks``.
    """
    task = EnvironmentTask(name, environment, reference_returns, episode_limit)
    origin = f"{sys._getframe(1).f_globals.get('__name__')} (task {name})"  # of the caller
    described = environment if isinstance(environment, str) else "environment of a function"
    registry.tasks.register(
        name, task, summary=summary or f"Gymnasium environment {described}", origin=origin
    )
    return task


PEN = EnvironmentTask("pen", "gymnasium_robotics:AdroitHandPen-v1")
