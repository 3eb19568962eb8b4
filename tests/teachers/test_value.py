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
from obdbench.teachers.teacher import Teacher, load, load_teacher


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


Contents = tuple[dict[str, Any], dict[str, str]]


def without_critics(tensors: dict[str, Any], metadata: dict[str, str]) -> Contents:
    return {name: held for name, held in tensors.items() if "critic" not in name}, metadata


def with_spread(value: float) -> Callable[..., Contents]:
    return lambda tensors, metadata: ({**tensors, "state_std": torch.full((11,), value)}, metadata)


def with_mean(shape: tuple[int, ...]) -> Callable[..., Contents]:
    moments = {name: torch.ones(shape) for name in ("state_mean", "state_std")}
    return lambda tensors, metadata: (tensors | moments, metadata)


def with_card(text: str) -> Callable[..., Contents]:
    return lambda tensors, metadata: (tensors, {**metadata, "card": text})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_critics, "holds no critic"),
        (with_spread(-1e-3), "spreads are negative"),
        (with_spread(float("nan")), "not finite"),
        (with_mean(()), r"state means of shape \(\)"),
        (with_mean((11, 1)), r"state means of shape \(11, 1\)"),
        (with_card("[1]"), "its card is a list"),
        (with_card("null"), "its card is a NoneType"),
        (with_card("[" * 100_000), "cannot be read"),
    ],
)
def test_a_file_that_would_fail_later_is_one_line(
    toy_teacher: Teacher, tmp_path: Path, change: Callable[..., Contents], said: str
) -> None:
    path = tmp_path / "teacher.safetensors"
    replace(toy_teacher, card={"source": "toy"}).save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["card"]) == load(path).card
    tensors, metadata = change(load_file(path), metadata)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(InvalidDataError, match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_teacher_without_critics_acts_and_has_no_values(
    toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    actor = replace(toy_teacher, critics=())
    assert np.isfinite(actor.act(toy_dataset.observations[:3])).all()
    with pytest.raises(InvalidDataError, match="has no critic"):
        actor.columns(toy_dataset.observations)


@pytest.mark.parametrize("name", ["minari/mujoco/hopper/medium-v0", "file:hopper-mine.npz"])
def test_no_teacher_is_known_for_other_data(name: str) -> None:
    with pytest.raises(ObdError, match="No teacher is known"):
        load_teacher(name)
