r"""How students' actions differ from their teacher's, and which of the differences cost return.

``run`` distills a synset per dataset and variant, clones four students on it and writes one JSON
file to ``docs/studies/results/action-errors/`` with

- the share of the teacher's action variance that students miss on states of the data, and the slope
  :math:`b = \mathrm{Cov}(\pi, \pi^*) / \mathrm{Var}\,\pi^*` of their actions on the teacher's;
- the local slope: the same of the changes of both actions when noise of 0.1 standard deviations is
  added to a state;
- the score of students whose actions are
  :math:`\bar a + g\,(\pi(s) - \bar a)`, for several gains g, with the mean :math:`\bar a` of the
  teacher's actions;
- the share of episodes that end below five points;
- the squared error of the students' actions on the states of their own episodes, as a share of the
  teacher's action variance on the data, in the first 20, the next 80 and all later steps;
- the score of the teacher with white noise of the students' squared error added to its actions.

``table`` writes the block ``action-errors`` of ``docs/further-studies.md``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from dataset_study import DOCS, DatasetStudy, markdown_table

import obdbench
from obdbench.datasets.dataset import Array, Dataset
from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.errors import run_script
from obdbench.evaluation.protocol import Default
from obdbench.evaluation.students import BatchedActor, episode_seeds, train_students
from obdbench.tasks.rollout import ActFunction, Episodes, run_episodes
from obdbench.tasks.task import normalized_return
from obdbench.teachers.teacher import Teacher

CORRECTED = {"solver": "corrected", "exact_interval": 10, "steps": 200, "outer_lr": 0.03}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "av-pbc, infinite width": ("av-pbc", {}),
    "pbc, infinite width": ("pbc", {}),
    "av-pbc, `corrected`": ("av-pbc", CORRECTED),
}
DATASETS = [
    "embedded/halfcheetah-medium-replay-v1",
    "embedded/halfcheetah-medium-v1",
    "embedded/walker2d-medium-v1",
    "embedded/hopper-medium-replay-v1",
]
SEED = 30
GAINS = (1.0, 1.2, 1.5, 2.0)
PHASES = ((0, 20), (20, 100), (100, 1000))
STATES, POLICIES, EPISODES, LOW_SCORE, LOCAL_NOISE = 2000, 4, 5, 5.0, 0.1


class Measurement:
    """Students of one synset beside their teacher."""

    def __init__(self, dataset: Dataset, teacher: Teacher, synset: Synset, seed: int) -> None:
        self.teacher, self.task = teacher, synset.task
        settings = DistillSettings()
        protocol = Default(policies=POLICIES, episodes=EPISODES)
        cloning = protocol.default_cloning(settings)
        params = train_students(cloning, [synset], [seed], POLICIES, settings)
        self.actor = BatchedActor(cloning.architecture, params, [synset.standardizer], EPISODES)
        self.resets = episode_seeds(seed, 0, POLICIES, EPISODES)
        rows = np.linspace(0, len(dataset) - 1, STATES).astype(int)
        observations = dataset.observations[rows]
        self.targets = teacher.act(observations)
        self.mean = self.targets.mean(0)
        rng = np.random.default_rng(1)
        noise = LOCAL_NOISE * rng.standard_normal(observations.shape) * synset.standardizer.scale

        def act(observations: Array) -> Array:
            states = torch.from_numpy(synset.standardizer.apply(observations))
            with torch.no_grad():
                stacked = states.expand(POLICIES, *states.shape)
                return np.asarray(cloning.architecture.act(params, stacked).numpy())

        self.actions = act(observations)
        self.action_changes = act(observations + noise) - self.actions
        self.target_changes = teacher.act(observations + noise) - self.targets

    def on_data(self) -> dict[str, float]:
        """The missed variance and the slopes on states of the data."""
        centered = self.targets - self.mean
        variance = np.square(centered).sum() * POLICIES
        return {
            "missed_variance": float(np.square(self.actions - self.targets).sum() / variance),
            "slope": float(((self.actions - self.mean) * centered).sum() / variance),
            "local_slope": float(
                (self.action_changes * self.target_changes).sum()
                / (np.square(self.target_changes).sum() * POLICIES)
            ),
        }

    def scores(self, act: ActFunction) -> tuple[Array, Episodes]:
        """The score of every episode, and the episodes."""
        episodes = run_episodes(act, self.task, self.resets, record=True)
        return np.asarray(normalized_return(self.task, episodes.returns)), episodes

    def with_gain(self, gain: float) -> tuple[Array, Episodes]:
        """The students' episodes with a gain on their actions."""
        return self.scores(
            lambda o, slots: np.clip(self.mean + gain * (self.actor(o, slots) - self.mean), -1, 1)
        )

    def errors_by_phase(self, episodes: Episodes) -> list[float | None]:
        """The squared error of actions in the students' episodes, by phase of the episode."""
        variance = np.square(self.targets - self.mean).mean()
        errors = [
            np.square(actions - self.teacher.act(observations)).mean(-1)
            for observations, actions in zip(
                episodes.split("observations"), episodes.split("actions"), strict=True
            )
        ]
        phases = [np.concatenate([error[low:high] for error in errors]) for low, high in PHASES]
        return [float(phase.mean() / variance) if len(phase) else None for phase in phases]

    def noisy_teacher(self) -> float:
        """The teacher's score with white noise of the students' squared error."""
        scale = float(np.sqrt(np.square(self.actions - self.targets).mean()))
        rng = np.random.default_rng(0)

        def act(observations: Array, _: Array) -> Array:
            actions = self.teacher.act(observations)
            return np.clip(actions + scale * rng.standard_normal(actions.shape), -1, 1)

        return float(self.scores(act)[0].mean())


def measure(dataset_id: str, variant: str) -> dict[str, Any]:
    """Distill, clone and measure."""
    dataset, teacher = obdbench.load_dataset(dataset_id), obdbench.load_teacher(dataset_id)
    objective, changes = VARIANTS[variant]
    settings = {"kernel_start": "zero", **changes}
    synset = obdbench.distill(dataset, teacher, objective, seed=SEED, **settings)
    students = Measurement(dataset, teacher, synset, SEED)
    runs = {gain: students.with_gain(gain) for gain in GAINS}
    scores, episodes = runs[1.0]
    return {
        "dataset": dataset_id,
        "variant": variant,
        "seed": SEED,
        **students.on_data(),
        "scores_by_gain": {f"{gain:g}": float(runs[gain][0].mean()) for gain in GAINS},
        "low_share": float((scores < LOW_SCORE).mean()),
        "errors_by_phase": students.errors_by_phase(episodes),
        "teacher": float(students.scores(lambda o, _: teacher.act(o))[0].mean()),
        "teacher_with_noise": students.noisy_teacher(),
    }


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per dataset and variant."""
    phases = [f"error, steps {low + 1} to {high}" for low, high in PHASES]
    header = ["dataset", "variant", "missed variance", "slope", "local slope"]
    header += [f"score, gain {gain:g}" for gain in GAINS]
    header += ["episodes below 5", *phases, "teacher", "teacher with noise"]
    lines = []
    for row in rows:
        errors = ["–" if error is None else f"{error:.2f}" for error in row["errors_by_phase"]]
        scores = [f"{row['scores_by_gain'][f'{gain:g}']:.1f}" for gain in GAINS]
        name = DatasetId(row["dataset"]).short_name
        cells = [name, row["variant"], f"{row['missed_variance']:.2f}", f"{row['slope']:.2f}"]
        cells.append(f"{row['local_slope']:.2f}")
        cells += [*scores, f"{row['low_share']:.0%}", *errors]
        lines.append([*cells, f"{row['teacher']:.1f}", f"{row['teacher_with_noise']:.1f}"])
    return markdown_table(header, lines, left=2)


def file_name(dataset_id: str, variant: str) -> str:
    """The name of the result file of a dataset and variant, without its suffix."""
    name = DatasetId(dataset_id).short_name
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {variant}".lower()).strip("-")


STUDY = DatasetStudy(
    "action-errors",
    DOCS / "further-studies.md",
    measure,
    format_table,
    {file_name(*case): case for case in product(DATASETS, VARIANTS)},
)


if __name__ == "__main__":
    sys.exit(run_script(STUDY.main))
