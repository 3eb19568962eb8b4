r"""The criterion by which a search compares candidates; smaller is better.

The criterion is *offline* by default: students are cloned on the synset, and the objective is taken
on dataset states that the distillation did not see,

.. math:: C = \mathbb{E}_{\theta}\, H_{\mathrm{reference}}\big(\theta_T(\text{synset});\
          D_{\text{held out}}\big),

where the reference is the objective with its *default* parameters, so that a search over β or τ
compares like with like. The held-out states carry no noise, so that a search over ``smoothing`` by
this criterion prefers none. The criterion ``returns`` is minus the mean normalized return in the
environment, which offline methods must not use; the preset records which one was used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from obdbench.datasets.dataset import (
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    Array,
    Dataset,
    RelatedDataset,
    episode_numbers,
)
from obdbench.datasets.loading import load_dataset
from obdbench.distillation.initialization import needs_teacher
from obdbench.distillation.loop import EvaluationPoint, distill_points
from obdbench.distillation.memory_limits import DEFAULT_MEMORY_BYTES
from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidDataError
from obdbench.evaluation import students
from obdbench.evaluation.protocol import make_protocol
from obdbench.objectives.objective import Batch, float_tensor, make_objective
from obdbench.teachers.loading import load_teacher
from obdbench.teachers.teacher import Teacher
from obdbench.tuning.search_space import Candidate, SearchConfig

CRITERIA = ("offline", "returns")
HELD_OUT_FRACTION, MAX_HELD_OUT = 0.1, 4096
STUDENTS_PER_SYNSET = 4

Criterion = Callable[[EvaluationPoint], list[float]]  # one value per seed


@dataclass(frozen=True)
class CandidateResult:
    """The criterion of a candidate at one evaluation point."""

    candidate: Candidate
    criterion: float
    step: int


def measure_candidate(
    search: SearchConfig,
    candidate: Candidate,
    device: str = "cpu",
    memory: int = DEFAULT_MEMORY_BYTES,
) -> Iterator[CandidateResult]:
    """Distill with a candidate; yields its criterion, a mean over datasets and seeds, per point."""
    runs: list[Iterator[EvaluationPoint]] = []
    criteria: list[Criterion] = []
    for dataset_id in search.datasets:
        objective = make_objective(search.objective, candidate.objective_params)
        teacher = None
        if needs_teacher(objective, candidate.settings):
            teacher = load_teacher(dataset_id, search.teachers.get(dataset_id))
        training, held_out = split_dataset(load_dataset(dataset_id))
        criteria.append(make_criterion(search, held_out, teacher, candidate.settings))
        runs.append(
            distill_points(
                training,
                teacher,
                objective,
                candidate.settings,
                list(search.seeds),
                device=device,
                memory=memory,
            )
        )
    for points in zip(*runs, strict=True):
        values = [
            value
            for criterion, point in zip(criteria, points, strict=True)
            for value in criterion(point)
        ]
        yield CandidateResult(candidate, float(np.mean(values)), points[0].step)


def split_dataset(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The transitions to distill and the held-out ones; the same for every candidate.

    The held-out states have the units of those to distill, which the students see.
    Whole episodes are held out, or the last rows if the episodes are too long for that.
    """
    target = min(MAX_HELD_OUT, max(1, round(HELD_OUT_FRACTION * len(dataset))))
    if target >= len(dataset):
        raise InvalidDataError(
            f"{dataset.id} is too small to hold states out.", "Tune on a larger one."
        )
    numbers = episode_numbers(dataset)
    lengths = np.bincount(numbers)
    order = np.random.default_rng([0, 12]).permutation(len(lengths))
    if lengths.max() <= target:
        count = np.searchsorted(np.cumsum(lengths[order]), target, side="right")
        held_out = np.isin(numbers, order[:count])
    else:
        held_out = np.arange(len(dataset)) >= len(dataset) - target
    training, others = take_rows(dataset, ~held_out), take_rows(dataset, held_out)
    content = {item.name: getattr(others, item.name) for item in fields(Dataset)}
    return training, RelatedDataset(**content, reference=training)


def take_rows(dataset: Dataset, rows: Array) -> Dataset:
    """The dataset with these rows only."""
    values = {name: getattr(dataset, name) for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)}
    changes: dict[str, Any] = {n: None if v is None else v[rows] for n, v in values.items()}
    return replace(dataset, **changes)


def make_criterion(
    search: SearchConfig, held_out: Dataset, teacher: Teacher | None, settings: DistillSettings
) -> Criterion:
    """The criterion of one dataset as a function of an evaluation point."""
    protocol = make_protocol("default", {"policies": STUDENTS_PER_SYNSET})
    if search.criterion == "returns":
        return lambda point: [
            -score.normalized_return
            for score in protocol.score(point.synsets, settings, list(search.seeds))
        ]
    reference = make_objective(search.objective, {})
    prepared = reference.prepare(held_out, teacher, np.random.default_rng([0, 13]))
    columns = {"actions": float_tensor(held_out.actions), **prepared}
    for name in reference.noise_columns:
        columns[name] = torch.zeros(len(held_out), held_out.action_size)
    cloning = protocol.default_cloning(settings)

    def measure_offline(point: EvaluationPoint) -> list[float]:
        synsets = point.synsets
        params = students.train_students(
            cloning, synsets, list(search.seeds), STUDENTS_PER_SYNSET, settings
        )
        states = float_tensor(held_out.standardizer.apply(held_out.observations))
        count = len(synsets) * STUDENTS_PER_SYNSET
        batch = Batch(
            {
                name: column.expand(count, *column.shape)
                for name, column in {**columns, "states": states}.items()
            }
        )
        with torch.no_grad():
            actions = cloning.architecture.act(params, batch.states)
            losses = reference.loss(actions, batch)
        return [float(v) for v in losses.reshape(len(synsets), STUDENTS_PER_SYNSET).mean(1)]

    return measure_offline
