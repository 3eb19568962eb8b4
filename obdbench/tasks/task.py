r"""D4RL's normalized score.

.. math:: \mathrm{score} = 100\,(R - R_\mathrm{random}) / (R_\mathrm{expert} - R_\mathrm{random})

The reference returns are those of D4RL (Fu et al., 2020, arXiv 2004.07219; file ``infos.py`` of
its package). :data:`TASKS` are the ``v4`` environments, which keep the dynamics and rewards of the
``v2`` environments D4RL recorded with. :data:`MINARI_TASKS` are the ``v5`` environments, in which
Minari recorded its datasets. They keep D4RL's reference returns: HalfCheetah is unchanged, Hopper
and Walker2d give no alive bonus in the state that ends an episode (at most 1 per episode), and
Walker2d has another friction of the right foot. Scores of ``v4`` and ``v5`` are not comparable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from obdbench.errors import unknown_name

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Task:
    """A locomotion task and the two returns that define its scale."""

    name: str
    env_id: str
    random_return: float
    expert_return: float
    observation_size: int
    action_size: int
    episode_limit: int = 1000


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("hopper", "Hopper-v4", -20.272305, 3234.3, 11, 3),
        Task("walker2d", "Walker2d-v4", 1.629008, 4592.3, 17, 6),
        Task("halfcheetah", "HalfCheetah-v4", -280.178953, 12135.0, 17, 6),
    )
}


MINARI_TASKS: dict[str, Task] = {
    f"{task.name}-v5": replace(
        task, name=f"{task.name}-v5", env_id=f"{task.env_id.removesuffix('v4')}v5"
    )
    for task in TASKS.values()
}


def get_task(name: str) -> Task:
    """The task of a name, or of the task part of a dataset name such as ``hopper-medium-v2``."""
    if name in MINARI_TASKS:
        return MINARI_TASKS[name]
    short = name.rsplit("/", 1)[-1].split("-", 1)[0].lower()
    if short not in TASKS:
        raise unknown_name("task", short, TASKS)
    return TASKS[short]


def find_task_by_environment(env_id: str) -> Task | None:
    """The task that is scored in an environment."""
    tasks = (*TASKS.values(), *MINARI_TASKS.values())
    return next((task for task in tasks if task.env_id == env_id), None)


def normalized_return(task: Task, returns: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """D4RL-normalized returns, 0 = random policy, 100 = expert."""
    import numpy as np  # in here, so that the command line lists tasks without it

    raw = np.asarray(returns, dtype=np.float64)
    return 100.0 * (raw - task.random_return) / (task.expert_return - task.random_return)
