"""``obdbench.train_teacher``: a teacher for any dataset, kept in the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.offline_rl.trainer import DEFAULT_ALGORITHM, DEFAULT_STEPS, train_teachers
from obdbench.tasks.task import Task
from obdbench.teachers.loading import load_teacher, trained_teacher_path
from obdbench.teachers.published_scores import evaluate_teacher
from obdbench.teachers.teacher import Teacher

EPISODES = 20


def train_teacher(
    dataset: Dataset | str,
    algorithm: str = DEFAULT_ALGORITHM,
    *,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    policy: Teacher | str | None = None,
    episodes: int = EPISODES,
    progress: bool = True,
) -> Teacher:
    """Train a teacher offline and keep it in the cache, where later commands find it.

    ``dataset`` is a :class:`~obdbench.datasets.dataset.Dataset` or an identifier. ``algorithm`` is
    ``td3-bc``, ``iql`` or ``cal-ql``, and ``settings`` overrides its settings. The teacher is the
    policy after the last of ``steps`` gradient steps; its card holds the losses, statistics on
    held-out transitions and the return over ``episodes`` deterministic episodes, which plays no
    part in the training. An interrupted call continues where it was; a finished teacher of the
    same dataset and algorithm is replaced.

    ``fitted-q`` fits a critic to ``policy``, a teacher, a registered name or the path of a policy
    file, which then serves the objectives that need action values.
    """
    loaded = load_dataset(dataset) if isinstance(dataset, str) else dataset
    if isinstance(policy, str):
        policy = load_teacher(loaded.id, policy)
    path, state_path = _paths(loaded, algorithm)
    (teacher,) = train_teachers(
        [loaded],
        algorithm,
        steps=steps,
        seed=seed,
        settings=settings,
        policy=policy,
        state_path=state_path,
        progress=progress,
    )
    teacher.save(path)
    if episodes:
        measured = measure_return(teacher, loaded.task, episodes)
        teacher = replace(teacher, card={**teacher.card, "measured": measured})
        teacher.save(path)
    state_path.unlink(missing_ok=True)
    return teacher


def find_finished_teacher(dataset: Dataset, algorithm: str) -> Teacher | None:
    """The teacher that an earlier call trained on this data to its end."""
    path, state_path = _paths(dataset, algorithm)
    if not path.exists() or state_path.exists():
        return None
    teacher = Teacher.load(path)
    return teacher if teacher.card.get("data", {}).get("checksum") == dataset.checksum else None


def _paths(dataset: Dataset, algorithm: str) -> tuple[Path, Path]:
    """The path of the teacher, and that of the state of its training."""
    path = trained_teacher_path(dataset.id, algorithm)
    return path, path.with_name(f"{path.stem}-{dataset.checksum[:8]}.training.pt")


def measure_return(teacher: Teacher, task: Task, episodes: int) -> dict[str, Any]:
    """The return of deterministic episodes, as the card of a teacher contains it."""
    scores = evaluate_teacher(teacher, task, episodes)
    return {
        "normalized_return": round(float(scores.mean()), 2),
        "standard_deviation": round(float(scores.std()), 2),
        "episodes": episodes,
        "environment": task.env_id,
    }
