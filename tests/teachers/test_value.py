"""The teacher's action value over whole datasets."""

from __future__ import annotations

import numpy as np
import pytest

from obdbench.data.dataset import Dataset
from obdbench.teachers import teacher as teachers
from obdbench.teachers.teacher import Teacher


def test_values_are_computed_in_chunks(
    toy_dataset: Dataset, toy_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toy_teacher.value(toy_dataset.observations, toy_dataset.actions)
    rows: list[int] = []
    forward = teachers.forward

    def counted(layers: teachers.Layers, x: teachers.Tensor) -> teachers.Tensor:
        rows.append(len(x))
        return forward(layers, x)

    monkeypatch.setattr(teachers, "forward", counted)
    monkeypatch.setattr(teachers, "CHUNK", 250)
    found = toy_teacher.value(toy_dataset.observations, toy_dataset.actions)
    assert rows == [250, 250, 250, 250, 100, 100]  # two critics
    assert np.allclose(found, whole, rtol=1e-6, atol=1e-6)
    assert toy_teacher.value(toy_dataset.observations[:0], toy_dataset.actions[:0]).shape == (0,)
