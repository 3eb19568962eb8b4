r"""Checks of real students during a distillation.

A check clones a few real students on the current synset, with the exact number of inner steps, and
measures on states s with target actions t which share of the targets' variance they miss (1 − R²),

.. math:: \frac{\sum_s \|\pi_\theta(s) - t(s)\|^2}{\sum_s \|t(s) - \bar t\|^2},

and the same ratio of the objective: that of the students' actions over that of the mean target
:math:`\bar t`. Targets are the teacher's actions, or the dataset's if there is no teacher. The
states are dataset states with noise that no outer step draws. The teacher's columns
(:meth:`~obdbench.teachers.teacher.Teacher.columns`) are those of the state with noise; other
columns of the objective, such as weights, are those of the dataset state. Checks use their own
random numbers.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.random_streams import CHECK_STREAM
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.student_cloning import clone_students
from obdbench.objectives.objective import Batch, Columns, Objective
from obdbench.policies.networks import get_architecture, seeded_generator
from obdbench.teachers.teacher import Teacher

DEFAULT_NOISE_SCALE = 0.1  # of the states if the distillation does not smooth its states


@dataclass(frozen=True)
class StudentCheck:
    """The shares of the target variance and of the objective that students miss at one step.

    Shares are infinite if a student diverged.
    """

    step: int
    missed_variance: float
    missed_objective: float

    def as_json(self) -> dict[str, float | None]:
        """Return the fields by name; infinite shares, which JSON lacks, become None."""
        return {name: v if math.isfinite(v) else None for name, v in asdict(self).items()}


@dataclass
class GuardState:
    """The checks of every seed, and the synsets and generators of seeds whose phase has ended.

    ``best_states`` and ``best_actions`` are the stacked synsets of lowest missed variance.
    ``ended`` maps seed indices to the step of the check that ended their infinite-width phase, and
    ``generators`` maps (stream, seed index) to the state of the generator at that step until the
    exact phase begins.
    """

    best_states: Tensor
    best_actions: Tensor
    checks: list[list[StudentCheck]]
    ended: dict[int, int] = field(default_factory=dict)
    generators: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def missed_variance(self) -> float | None:
        """Return the mean missed variance of the latest checks, if every seed was checked."""
        if not all(self.checks):
            return None
        return statistics.mean(checks[-1].missed_variance for checks in self.checks)


class StudentEvaluator:
    """Clones students on synsets and measures what they miss of their targets."""

    def __init__(
        self,
        dataset: Dataset,
        teacher: Teacher | None,
        objective: Objective,
        columns: Columns,
        settings: DistillSettings,
    ) -> None:
        """``columns`` are those of the dataset and the objective, on the device."""
        self.objective, self.settings = objective, settings
        rng = np.random.default_rng([0, CHECK_STREAM])
        rows = rng.choice(len(dataset), min(settings.guard_states, len(dataset)), replace=False)
        noise_scale = settings.smoothing or DEFAULT_NOISE_SCALE
        noise = np.asarray(rng.standard_normal((len(rows), dataset.observation_size)), np.float32)
        noise *= np.float32(noise_scale) * dataset.standardizer.scale
        observations = dataset.observations[rows] + noise
        held_out = {name: column[torch.from_numpy(rows)] for name, column in columns.items()}
        states, like = dataset.standardizer.apply(observations), columns["states"]
        held_out["states"] = torch.from_numpy(states).to(like)
        teacher_columns = {} if teacher is None else teacher.columns(observations)
        imitated = teacher_columns if objective.uses_teacher else {}
        targets = imitated.get("teacher_actions", dataset.actions[rows])
        self.targets = torch.from_numpy(np.asarray(targets, np.float32)).to(like)
        for name in held_out.keys() & teacher_columns.keys():
            held_out[name] = torch.from_numpy(teacher_columns[name]).to(like)
        # the stream after those of the students of seed 0, which are (0, CHECK_STREAM, index)
        generator = seeded_generator(0, CHECK_STREAM, settings.guard_students)
        for name in objective.noise_columns:
            action_noise = torch.randn(self.targets.shape, generator=generator)
            held_out[name] = action_noise.to(like)
        self.batch = Batch(
            {
                name: column.expand(settings.guard_students, *column.shape)
                for name, column in held_out.items()
            }
        )

    def check(self, x: Tensor, a: Tensor, seed: int, step: int) -> StudentCheck:
        """Clone students on one synset; their initial weights are the same at every step."""
        architecture, dtype = get_architecture(self.settings.architecture), x.dtype
        students = range(self.settings.guard_students)
        generators = [seeded_generator(seed, CHECK_STREAM, index) for index in students]
        params = clone_students(self.settings, x, a, generators)
        with torch.no_grad():
            targets = self.targets.to(dtype)
            actions = architecture.act(params, self.batch.states.to(dtype))
            mean_action = targets.mean(0).expand_as(actions)
            missed = (actions - targets).square().sum((1, 2)).mean()
            missed_objective = self.objective.loss(actions, self.batch).mean()
            return StudentCheck(
                step,
                _finite_or_inf(missed / (targets - mean_action[0]).square().sum()),
                _finite_or_inf(
                    missed_objective / self.objective.loss(mean_action, self.batch).mean()
                ),
            )


def _finite_or_inf(value: Tensor) -> float:
    """Return the value, or infinity for students that diverged."""
    return float(value) if torch.isfinite(value) else float("inf")
