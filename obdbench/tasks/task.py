r"""Tasks and D4RL's normalized score.

.. math:: \mathrm{score} = 100\,(R - R_\mathrm{random}) / (R_\mathrm{expert} - R_\mathrm{random})

The reference returns of the ``v4`` environments are those of D4RL (Fu et al., 2020, arXiv
2004.07219; file ``infos.py`` of its package): they keep the dynamics and rewards of the ``v2``
environments D4RL recorded with. Those of the ``v5`` environments, in which Minari recorded its
datasets, and of Pendulum are in ``reference_returns.json``, written by
``tools/reference_returns.py``: the measured return of uniform actions, and the published return of
a SAC agent, which is D4RL's kind of expert. Scores of ``v4`` and ``v5`` are not comparable. A task
without reference returns has raw returns as scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obdbench import registry
from obdbench.errors import InvalidSettingError, unknown_name

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Task:
    """An environment and the two returns that define the scale of scores.

    ``action_bounds`` are the smallest and largest action of the environment; policies and datasets
    use -1 to 1. ``make_environment`` creates an environment that Gymnasium does not register.
    """

    name: str
    env_id: str
    random_return: float | None
    expert_return: float | None
    observation_size: int
    action_size: int
    episode_limit: int = 1000
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    make_environment: Callable[[], Any] | None = field(default=None, repr=False)

    @property
    def reference_returns(self) -> tuple[float, float] | None:
        """The returns of a random and of an expert policy, if they are known."""
        if self.random_return is None or self.expert_return is None:
            return None
        return self.random_return, self.expert_return


REFERENCES: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("reference_returns.json").read_text(encoding="utf-8")
)


def with_references(task: Task) -> Task:
    """The task with the reference returns in the file."""
    returns = REFERENCES[task.name]
    return replace(
        task,
        random_return=returns["random"]["return"],
        expert_return=returns["expert"]["return"],
    )


HOPPER = Task("hopper", "Hopper-v4", -20.272305, 3234.3, 11, 3)
WALKER2D = Task("walker2d", "Walker2d-v4", 1.629008, 4592.3, 17, 6)
HALFCHEETAH = Task("halfcheetah", "HalfCheetah-v4", -280.178953, 12135.0, 17, 6)
ANT = Task("ant", "Ant-v4", -325.6, 3879.7, 27, 8)
ANT_V5 = Task("ant-v5", "Ant-v5", None, None, 105, 8)
PENDULUM = with_references(
    Task("pendulum", "Pendulum-v1", None, None, 3, 1, 200, ((-2.0,), (2.0,)))
)

TASKS: dict[str, Task] = {task.name: task for task in (HOPPER, WALKER2D, HALFCHEETAH)}


MINARI_TASKS: dict[str, Task] = {
    f"{task.name}-v5": with_references(
        replace(task, name=f"{task.name}-v5", env_id=f"{task.env_id.removesuffix('v4')}v5")
    )
    for task in TASKS.values()
}
HOPPER_V5, WALKER2D_V5, HALFCHEETAH_V5 = MINARI_TASKS.values()


def get_task(name: str) -> Task:
    """The task of a name, or of the task part of a dataset name such as ``hopper-medium-v2``."""
    text = name.rsplit("/", 1)[-1].lower()
    short = find_leading_task_name(text)
    if short is None:
        raise unknown_name("task", text.split("-", 1)[0], registry.tasks.names())
    task = registry.tasks.get(short)
    if callable(task):  # a task that is described by its environment
        task = task()
    if not isinstance(task, Task):
        raise InvalidSettingError(
            f"The task {short!r} is registered as a {type(task).__name__}.",
            "Register it with obdbench.register_task.",
        )
    return task


def find_leading_task_name(text: str) -> str | None:
    """The longest name of a task among the beginnings of a text that end before a hyphen."""
    parts = text.lower().split("-")
    beginnings = ("-".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in beginnings if name in registry.tasks), None)


def match_task_name(text: str) -> str | None:
    """The longest name of a task with which a text begins."""
    names = [name for name in registry.tasks.names() if _begins_with(text.lower(), name)]
    return max(names, key=len, default=None)


def _begins_with(text: str, name: str) -> bool:
    following = text.removeprefix(name)[:1] if text.startswith(name) else name
    return text.startswith(name) and (name in TASKS or not following.isalnum())


def find_task_by_environment(env_id: str) -> Task | None:
    """The registered task that is scored in an environment; the first one if there are several."""
    descriptions = find_descriptions(env_id)
    return get_task(descriptions[0].name) if descriptions else None


def find_descriptions(env_id: str) -> list[Any]:
    """The registered tasks of an environment, or their descriptions."""
    described = (registry.tasks.get(entry.name) for entry in registry.tasks)
    return [task for task in described if getattr(task, "env_id", None) == env_id]


def normalized_return(task: Task, returns: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns, normalized as in D4RL (0 = random, 100 = expert); raw without references."""
    import numpy as np  # in here, so that the command line lists tasks without it

    raw = np.asarray(returns, dtype=np.float64)
    if task.reference_returns is None:
        return raw
    low, high = task.reference_returns
    return 100.0 * (raw - low) / (high - low)
