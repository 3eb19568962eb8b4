"""Noise added to the states that the objective sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.state_sources.smoothed import smooth_states
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import Batch, Columns, make_objective
from obdbench.objectives.pbc import PBC
from obdbench.teachers.teacher import Teacher


class RecordingPBC(PBC):
    """PBC that records its batches."""

    name = "recording-pbc"

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Columns] = []

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        self.batches.append(dict(batch.columns))
        return super().loss(actions, batch)


def settings(**overrides: Any) -> DistillSettings:
    return resolve_settings("tiny", {"pairs": 8, "inner_steps": 4, "steps": 3, **overrides})


def test_noise_has_the_requested_scale(toy_dataset: Dataset) -> None:
    noisy = smooth_states(toy_dataset, 0.3)
    noise = noisy.states - toy_dataset.states
    assert noisy.standardizer is toy_dataset.standardizer
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    assert np.allclose(noise.std(axis=0), 0.3, rtol=0.2)
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.2
    assert np.array_equal(noisy.actions, toy_dataset.actions)


def test_noise_is_reproducible_and_absent_at_scale_zero(toy_dataset: Dataset) -> None:
    first, second = smooth_states(toy_dataset, 0.3), smooth_states(toy_dataset, 0.3)
    assert first.checksum == second.checksum != toy_dataset.checksum
    assert smooth_states(toy_dataset, 0.0) is toy_dataset


@pytest.mark.parametrize("kernel_share", [0.0, 1.0])
def test_teacher_labels_the_smoothed_states(
    kernel_share: float, toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    objective = RecordingPBC()
    smoothing_settings = settings(smoothing=0.5, kernel_share=kernel_share)
    list(distill_points(toy_dataset, toy_teacher, objective, smoothing_settings, [0]))
    assert objective.batches
    for batch in objective.batches:
        states = batch["states"][0].numpy()
        expected = toy_teacher.act(toy_dataset.standardizer.invert(states))
        assert np.allclose(batch["teacher_actions"][0].numpy(), expected, atol=1e-5)
        nearest = np.abs(states[:, None] - toy_dataset.states[None]).max(-1).min(1)
        assert nearest.min() > 1e-4, "a state without noise"


def test_initial_synsets_have_no_noise(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    def distill(smoothing: float) -> Any:
        smoothing_settings = settings(smoothing=smoothing)
        points = distill_points(
            toy_dataset, toy_teacher, make_objective("pbc"), smoothing_settings, [0]
        )
        return [point.synsets[0] for point in points]

    plain, noisy = distill(0.0), distill(0.5)
    assert np.array_equal(plain[0].states, noisy[0].states)
    assert not np.array_equal(plain[-1].states, noisy[-1].states)
    assert noisy[-1].card["dataset_checksum"] == toy_dataset.checksum
    assert np.array_equal(noisy[-1].standardizer.mean, toy_dataset.standardizer.mean)


def test_smoothed_distillation_resumes_bit_for_bit(
    toy_dataset: Dataset, toy_teacher: Teacher, tmp_path: Path
) -> None:
    smoothing_settings = settings(smoothing=0.2, steps=4, evaluate_at=(0.5, 1.0))
    objective = make_objective("av-pbc")
    uninterrupted = list(
        distill_points(toy_dataset, toy_teacher, objective, smoothing_settings, [0])
    )
    snapshot = tmp_path / "snapshot"
    interrupted = distill_points(
        toy_dataset, toy_teacher, objective, smoothing_settings, [0], snapshot=snapshot
    )
    next(interrupted)
    interrupted.close()
    resumed = list(
        distill_points(
            toy_dataset, toy_teacher, objective, smoothing_settings, [0], snapshot=snapshot
        )
    )
    assert np.array_equal(uninterrupted[-1].synsets[0].states, resumed[-1].synsets[0].states)


def test_smoothing_cannot_be_negative() -> None:
    with pytest.raises(InvalidSettingError, match="smoothing"):
        settings(smoothing=-0.1)
