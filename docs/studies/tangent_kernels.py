r"""How far real students are from their linearization and from the limit of infinite width.

``python docs/studies/tangent_kernels.py run`` distills every embedded dataset (Av-PBC, ``fast``,
one seed) and clones students on three synsets: the start, after 200 infinite-width steps, and the
end. The cloned actions are predicted in two ways: by students of infinite width that start from the
output of the real student, and by the linearization of the real student at its initial weights
:math:`\theta_0`,

.. math:: f_t(s) = f(s; \theta_0) + J(s; \theta_0)\, \delta_t, \qquad
          \delta_{t+1} = \delta_t - \eta\, J(x; \theta_0)^\top D_t,

that is, by gradient descent with its own tangent kernel in place of the infinite one. The error of
a prediction is the mean squared distance to the actions of the real student on held-out states, as
a share of the variance of the teacher's actions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from dataset_study import DOCS, DatasetStudy, markdown_table
from torch import Tensor

import obdbench
from obdbench.datasets.dataset import Dataset
from obdbench.distillation.infinite_width.student import InfiniteWidthStudent
from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.student_check import StudentEvaluator
from obdbench.distillation.student_cloning import clone_students
from obdbench.errors import run_script
from obdbench.objectives.objective import make_objective
from obdbench.policies.networks import MLP4, Params, seeded_generator
from obdbench.teachers.teacher import Teacher

SEED, STUDENTS, STREAM = 30, 4, 77
SYNSETS = {"start": "start", "after 200 infinite-width steps": "200 steps", "end of `fast`": "end"}


class HeldOutStates:
    """Held-out states of a dataset, and the variance of the teacher's actions on them."""

    def __init__(self, dataset: Dataset, teacher: Teacher, settings: DistillSettings) -> None:
        objective = make_objective("pbc")
        prepared = objective.prepare(dataset, teacher, np.random.default_rng(0))
        columns = {name: torch.as_tensor(column) for name, column in prepared.items()}
        columns["states"] = torch.as_tensor(dataset.states)
        evaluator = StudentEvaluator(dataset, teacher, objective, columns, settings)
        self.states: Tensor = evaluator.batch.states[0]
        self.targets: Tensor = evaluator.targets
        self.variance = (self.targets - self.targets.mean(0)).square().sum(1).mean()

    def share(self, actions: Tensor, others: Tensor) -> float:
        """Mean squared distance of actions as a share of the variance."""
        return float((actions - others).square().sum(-1).mean() / self.variance)


def linearized_actions(
    settings: DistillSettings, initial: Params, x: Tensor, a: Tensor, states: Tensor
) -> Tensor:
    """Actions of linearized students after gradient descent on the synset (x, a)."""
    _, to_weights = torch.func.vjp(lambda p: MLP4.apply(p, x)[0], initial)  # type: ignore[misc]
    f0 = MLP4.apply(initial, x)[0]
    change = {name: torch.zeros_like(value) for name, value in initial.items()}
    for _ in range(settings.inner_steps):
        f = f0 + output_change(initial, x, change)
        y = torch.tanh(f)
        slope = (2.0 / a.numel()) * (y - a) * (1 - y * y)
        (gradient,) = to_weights(slope)
        change = {name: v - settings.inner_lr * gradient[name] for name, v in change.items()}
    return torch.tanh(MLP4.apply(initial, states)[0] + output_change(initial, states, change))


def output_change(initial: Params, states: Tensor, change: Params) -> Tensor:
    """The Jacobian of the outputs at the initial weights, times a change of the weights."""
    tangent: Tensor
    _, tangent = torch.func.jvp(  # type: ignore[misc]
        lambda p: MLP4.apply(p, states)[0], (initial,), (change,)
    )
    return tangent


def limit_actions(
    settings: DistillSettings, initial: Params, x: Tensor, a: Tensor, states: Tensor
) -> Tensor:
    """Actions of students of infinite width that start from the outputs of the real ones."""
    student = InfiniteWidthStudent(MLP4.depth, settings.inner_lr, settings.inner_steps)
    x, a, states = (t.expand(STUDENTS, *t.shape).contiguous() for t in (x, a, states))
    return student.act(x, a, states, initial_output=lambda s: MLP4.apply(initial, s)[0])


def measure(name: str) -> dict[str, Any]:
    """Distill one dataset and measure the predictions on the synsets."""
    dataset_id = f"embedded/{name}"
    dataset, teacher = obdbench.load_dataset(dataset_id), obdbench.load_teacher(dataset_id)
    unguarded = {"steps": 200, "kernel_share": 1.0, "guard_interval": 0, "evaluate_at": (0.0, 1.0)}
    synsets = []
    for changes in (unguarded, {"evaluate_at": (1.0,)}):
        settings = resolve_settings("fast", {"kernel_start": "zero", **changes})
        for point in distill_points(dataset, teacher, make_objective("av-pbc"), settings, [SEED]):
            synsets += point.synsets
    held_out = HeldOutStates(dataset, teacher, settings)
    row: dict[str, Any] = {"dataset": name}
    for label, synset in zip(SYNSETS, synsets, strict=True):
        x, a = torch.from_numpy(synset.states), torch.from_numpy(synset.actions)
        generators = [seeded_generator(SEED, STREAM, index) for index in range(STUDENTS)]
        initial = MLP4.init(generators, x.shape[1], a.shape[1])
        generators = [seeded_generator(SEED, STREAM, index) for index in range(STUDENTS)]
        students = clone_students(settings, x, a, generators)
        with torch.no_grad():
            actions = MLP4.act(students, held_out.states)
            arguments = (settings, initial, x, a, held_out.states)
            infinite_width, linear = limit_actions(*arguments), linearized_actions(*arguments)
        row[label] = {
            "infinite_width": held_out.share(infinite_width, actions),
            "linearization": held_out.share(linear, actions),
            "missed_variance": held_out.share(actions, held_out.targets),
        }
    return row


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per dataset: for every synset, both errors and what real students miss."""
    columns = {
        "infinite_width": "infinite width",
        "linearization": "linearization",
        "missed_variance": "missed variance",
    }
    header = [
        "dataset",
        *(f"{label}:<br>{name}" for label in SYNSETS.values() for name in columns.values()),
    ]
    lines = [
        [row["dataset"], *(f"{row[label][key]:.2f}" for label in SYNSETS for key in columns)]
        for row in rows
    ]
    return markdown_table(header, lines)


STUDY = DatasetStudy("tangent-kernels", DOCS / "fast-preset.md", measure, format_table)


if __name__ == "__main__":
    sys.exit(run_script(STUDY.main))
