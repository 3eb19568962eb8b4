"""Compare the published teachers' scores in this project's environments with the paper's.

The score of each deterministic teacher over a few episodes is compared with the row "OffRL (whole)"
of Table 1 of the OBD paper (Lei et al., 2024, arXiv 2410.22728). Agreement shows that the weights,
the standardization, the environments and the return normalization are correct.
"""

from __future__ import annotations

from collections.abc import Iterator

from obdbench.datasets.dataset import Array
from obdbench.tasks.rollout import deterministic_returns
from obdbench.tasks.task import Task, get_task, normalized_return
from obdbench.teachers.published import load_published_teacher, published_teachers
from obdbench.teachers.teacher import Teacher

EPISODES = 20
MAX_DIFFERENCE = 15.0
MAX_MEAN_DIFFERENCE = 5.0


def evaluate_teacher(teacher: Teacher, task: Task, episodes: int = EPISODES) -> Array:
    """Normalized returns of deterministic episodes."""
    return normalized_return(task, deterministic_returns([teacher.act], task, episodes)[0])


def compare_published_teachers(episodes: int = EPISODES) -> Iterator[tuple[str, float, float]]:
    """The name, the measured and the published score of one published teacher after another."""
    for name, facts in published_teachers().items():
        measured = evaluate_teacher(load_published_teacher(name), get_task(name), episodes).mean()
        yield name, float(measured), float(facts["offrl"])
