"""Initial synsets: the pairs of a selection method, with the data's or the teacher's actions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from obdbench.datasets.dataset import Array, Dataset
from obdbench.distillation.settings import DistillSettings
from obdbench.objectives.objective import Objective
from obdbench.selection.selection_method import make_selection
from obdbench.selection.undistilled import SelectedPairs, select_pairs
from obdbench.teachers.teacher import Teacher


def select_initial_pairs(
    objective: Objective,
    settings: DistillSettings,
    dataset: Dataset,
    teacher: Teacher | None,
    rngs: Sequence[np.random.Generator],
) -> list[tuple[Array, Array]]:
    """Return the standardized states and the actions of the initial pairs, for every generator.

    The pairs of an undistilled objective are those of its own selection method; any other
    objective starts from the pairs of ``settings.init`` with the labels ``settings.init_labels``.
    """
    if isinstance(objective, SelectedPairs):
        method, labels = objective.method, objective.labels
    else:
        method, labels = make_selection(settings.init), settings.init_labels
    return [select_pairs(method, labels, dataset, teacher, settings.pairs, rng) for rng in rngs]


def needs_teacher(objective: Objective, settings: DistillSettings) -> bool:
    """Return whether the objective or the initial pairs need a teacher."""
    if objective.uses_teacher or isinstance(objective, SelectedPairs):
        return objective.uses_teacher
    return settings.init_labels == "teacher" or make_selection(settings.init).uses_teacher


def needs_critic(objective: Objective, settings: DistillSettings) -> bool:
    """Return whether the objective or the initial pairs use the teacher's action values."""
    if objective.uses_critic or isinstance(objective, SelectedPairs):
        return objective.uses_critic
    return make_selection(settings.init).uses_critic
