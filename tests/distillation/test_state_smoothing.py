"""Noise upon the states that the objective sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.state_smoothing import smooth_states
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import Batch, Columns, make_objective
from obdbench.objectives.pbc import PBC
from obdbench.teachers.teacher import Teacher


class Watched(PBC):
    """PBC that keeps what it is shown."""

    name = "watched"

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Columns] = []

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        self.batches.append(dict(batch._columns))
        return super().loss(actions, batch)


def settings(**overrides: Any) -> DistillSettings:
    return resolve_settings("tiny", {"pairs": 8, "inner_steps": 4, "steps": 3, **overrides})


def test_noise_has_the_spread_that_is_asked_for(toy_dataset: Dataset) -> None:
    noisy = smooth_states(toy_dataset, 0.3)
    noise = noisy.states - toy_dataset.states
    assert noisy.standardizer is toy_dataset.standardizer
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    assert np.allclose(noise.std(axis=0), 0.3, rtol=0.2)
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.2
    assert np.array_equal(noisy.actions, toy_dataset.actions)


def test_it_is_the_same_noise_every_time_and_none_where_none_is_asked(toy_dataset: Dataset) -> None:
    one, two = smooth_states(toy_dataset, 0.3), smooth_states(toy_dataset, 0.3)
    assert one.checksum == two.checksum != toy_dataset.checksum
    assert smooth_states(toy_dataset, 0.0) is toy_dataset


@pytest.mark.parametrize("kernel_share", [0.0, 1.0])
def test_the_teacher_answers_at_the_smoothed_states(
    kernel_share: float, toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    objective = Watched()
    chosen = settings(smoothing=0.5, kernel_share=kernel_share)
    list(distill_points(toy_dataset, toy_teacher, objective, chosen, [0]))
    assert objective.batches
    for batch in objective.batches:
        states = batch["states"][0].numpy()
        at_them = toy_teacher.act(toy_dataset.standardizer.invert(states))
        assert np.allclose(batch["teacher_actions"][0].numpy(), at_them, atol=1e-5)
        nearest = np.abs(states[:, None] - toy_dataset.states[None]).max(-1).min(1)
        assert nearest.min() > 1e-4, "a state came without noise"


def test_synsets_start_from_the_data_itself(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    def first(smoothing: float) -> Any:
        chosen = settings(smoothing=smoothing)
        made = distill_points(toy_dataset, toy_teacher, make_objective("pbc"), chosen, [0])
        return [point.synsets[0] for point in made]

    plain, noisy = first(0.0), first(0.5)
    assert np.array_equal(plain[0].states, noisy[0].states)
    assert not np.array_equal(plain[-1].states, noisy[-1].states)
    assert noisy[-1].card["dataset_checksum"] == toy_dataset.checksum
    assert np.array_equal(noisy[-1].standardizer.mean, toy_dataset.standardizer.mean)


def test_a_run_with_it_resumes_bit_for_bit(
    toy_dataset: Dataset, toy_teacher: Teacher, tmp_path: Path
) -> None:
    chosen = settings(smoothing=0.2, steps=4, evaluate_at=(0.5, 1.0))
    objective = make_objective("av-pbc")
    whole = list(distill_points(toy_dataset, toy_teacher, objective, chosen, [0]))
    file = tmp_path / "snapshot.safetensors"
    broken = distill_points(toy_dataset, toy_teacher, objective, chosen, [0], snapshot=file)
    next(broken)
    broken.close()
    resumed = list(distill_points(toy_dataset, toy_teacher, objective, chosen, [0], snapshot=file))
    assert np.array_equal(whole[-1].synsets[0].states, resumed[-1].synsets[0].states)


def test_smoothing_cannot_be_negative() -> None:
    with pytest.raises(InvalidSettingError, match="smoothing"):
        settings(smoothing=-0.1)
