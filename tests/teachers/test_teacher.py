"""The teacher's action value over whole datasets, and teachers' files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from obdbench.datasets.dataset import Dataset
from obdbench.errors import InvalidDataError, ObdError
from obdbench.teachers import teacher as teachers
from obdbench.teachers.teacher import Teacher


def test_values_are_computed_in_chunks(
    toy_dataset: Dataset, toy_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    observations = toy_dataset.observations
    whole = toy_teacher.value(observations, toy_dataset.actions)
    samples = toy_teacher.act(observations, np.random.default_rng(0))
    rows: list[int] = []
    apply_layers = teachers.apply_layers

    def count_rows(layers: teachers.Layers, x: teachers.Tensor) -> teachers.Tensor:
        rows.append(len(x))
        return apply_layers(layers, x)

    monkeypatch.setattr(teachers, "apply_layers", count_rows)
    monkeypatch.setattr(teachers, "CHUNK_ROWS", 250)
    values = toy_teacher.value(observations, toy_dataset.actions)
    assert rows == [250, 250, 250, 250, 100, 100]  # two critics
    assert np.allclose(values, whole, rtol=1e-6, atol=1e-6)
    again = toy_teacher.act(observations, np.random.default_rng(0))
    assert rows[6:] == [250, 250, 100]
    assert np.allclose(again, samples, rtol=1e-6, atol=1e-6)
    assert toy_teacher.act(observations[:0]).shape == (0, toy_dataset.action_size)
    assert toy_teacher.value(observations[:0], toy_dataset.actions[:0]).shape == (0,)
    assert toy_teacher.columns(observations[:0])["teacher_q"].shape == (0,)


Contents = tuple[dict[str, Any], dict[str, str]]


def with_spread(value: float) -> Callable[..., Contents]:
    return lambda tensors, metadata: ({**tensors, "state_std": torch.full((11,), value)}, metadata)


def with_mean(shape: tuple[int, ...]) -> Callable[..., Contents]:
    moments = {name: torch.ones(shape) for name in ("state_mean", "state_std")}
    return lambda tensors, metadata: (tensors | moments, metadata)


def with_card(text: str) -> Callable[..., Contents]:
    return lambda tensors, metadata: (tensors, {**metadata, "card": text})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (with_spread(-1e-3), "standard deviation is negative"),
        (with_spread(float("nan")), "not finite"),
        (with_mean(()), r"state means of shape \(\)"),
        (with_mean((11, 1)), r"state means of shape \(11, 1\)"),
        (with_card("[1]"), "card is a list"),
        (with_card("null"), "card is a NoneType"),
        (with_card("[" * 100_000), "cannot be read"),
    ],
)
def test_invalid_file_is_a_one_line_error(
    toy_teacher: Teacher, tmp_path: Path, change: Callable[..., Contents], problem: str
) -> None:
    path = tmp_path / "teacher.safetensors"
    replace(toy_teacher, card={"source": "toy"}).save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["card"]) == Teacher.load(path).card
    tensors, metadata = change(load_file(path), metadata)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(InvalidDataError, match=problem) as caught:
        Teacher.load(path)
    assert "\n" not in str(caught.value)


def test_teacher_without_critics_acts_but_has_no_values(
    toy_dataset: Dataset, toy_teacher: Teacher, tmp_path: Path
) -> None:
    path = tmp_path / "actor.safetensors"
    replace(toy_teacher, critics=()).save(path)
    actor = Teacher.load(path)
    columns = actor.columns(toy_dataset.observations)
    expected = toy_teacher.columns(toy_dataset.observations)
    assert set(expected) - set(columns) == {"teacher_q"}
    assert np.array_equal(columns["teacher_actions"], expected["teacher_actions"])
    with pytest.raises(InvalidDataError, match="has no critic"):
        actor.value(toy_dataset.observations, toy_dataset.actions)


def test_more_than_ten_critics_keep_their_order(toy_teacher: Teacher, tmp_path: Path) -> None:
    critics = tuple(
        tuple((weight + index, bias.clone()) for weight, bias in toy_teacher.critics[0])
        for index in range(12)
    )
    teacher = replace(toy_teacher, critics=critics)
    teacher.save(tmp_path / "t.safetensors")
    assert Teacher.load(tmp_path / "t.safetensors").checksum == teacher.checksum


def test_a_teacher_that_cannot_be_written_is_a_one_line_error(
    toy_teacher: Teacher, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ObdError, match="cannot be written"):
        toy_teacher.save(tmp_path / "file" / "teacher.safetensors")
    toy_teacher.save(tmp_path / "new" / "teacher.safetensors")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["teacher.safetensors"]


def test_values_of_double_precision_actions(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    rows = slice(0, 5)
    observations, actions = toy_dataset.observations[rows], toy_dataset.actions[rows]
    assert np.array_equal(
        toy_teacher.value(observations, actions.astype(np.float64)),
        toy_teacher.value(observations, actions.astype(np.float32)),
    )
