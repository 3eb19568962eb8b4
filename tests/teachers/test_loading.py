"""Teachers by dataset, by registered name and from files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from obdbench import register_teacher
from obdbench.errors import InvalidDataError, InvalidSettingError, ObdError, UnknownNameError
from obdbench.registry import teachers
from obdbench.teachers.loading import load_teacher, trained_teacher_path
from obdbench.teachers.teacher import Teacher

OTHER_DATASETS = [
    "minari/mujoco/hopper/medium-v0",
    "file:hopper-mine.npz",
    "d4rl/hopper-expert-v2",  # without a published teacher
]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def registered(toy_teacher: Teacher) -> Iterator[dict[str, Any]]:
    """A teacher registered by name, with the identifiers and the result of its loader."""
    calls: dict[str, Any] = {"identifiers": [], "result": toy_teacher}

    def load(dataset_id: str) -> Any:
        calls["identifiers"].append(dataset_id)
        return calls["result"]

    register_teacher("test-teacher", load)
    yield calls
    teachers.unregister("test-teacher")


@pytest.mark.parametrize("name", OTHER_DATASETS)
def test_other_datasets_have_no_default_teacher(name: str) -> None:
    with pytest.raises(ObdError, match="obdbench teach"):
        load_teacher(name)
    with pytest.raises(ObdError, match="--algorithm iql"):
        load_teacher(name, "iql")


@pytest.mark.parametrize("name", OTHER_DATASETS)
def test_a_trained_teacher_becomes_the_default(name: str, toy_teacher: Teacher) -> None:
    toy_teacher.save(trained_teacher_path(name, "iql"))
    assert load_teacher(name).checksum == toy_teacher.checksum
    assert load_teacher(name, "iql").checksum == toy_teacher.checksum
    with pytest.raises(ObdError, match="td3-bc"):
        load_teacher(name, "td3-bc")


def test_every_spelling_of_a_file_finds_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_teacher: Teacher
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for trained, same in [
        (f"file:{tmp_path}/a.npz", "file:~/a.npz"),
        ("file:~/a.npz#task=hopper", f"file:{tmp_path}/a.npz#hopper"),
    ]:
        toy_teacher.save(trained_teacher_path(trained, "iql"))
        assert load_teacher(same).checksum == toy_teacher.checksum
    with pytest.raises(ObdError, match="obdbench teach"):
        load_teacher("file:~/a.npz#hopper-v5")


def test_an_embedded_dataset_keeps_its_teacher_unless_another_is_named(
    toy_teacher: Teacher,
) -> None:
    name = "embedded/hopper-medium-v1"
    toy_teacher.save(trained_teacher_path(name, "iql"))
    shipped = load_teacher(name)
    assert shipped.checksum == load_teacher(name, "embedded").checksum
    assert load_teacher(name, "iql").checksum == toy_teacher.checksum != shipped.checksum


def test_a_file_is_loaded_by_its_path(tmp_path: Path, toy_teacher: Teacher) -> None:
    path = tmp_path / "mine.safetensors"
    replace(toy_teacher, id="mine").save(path)
    assert load_teacher("file:hopper-mine.npz", str(path)).id == "mine"
    with pytest.raises(InvalidDataError):
        load_teacher("file:hopper-mine.npz", str(tmp_path / "absent.safetensors"))


def test_a_registered_loader_receives_the_dataset(
    registered: dict[str, Any], toy_teacher: Teacher
) -> None:
    assert load_teacher("file:hopper-mine.npz", "test-teacher") is toy_teacher
    assert registered["identifiers"] == ["file:hopper-mine.npz"]


def test_a_loader_must_return_a_teacher(registered: dict[str, Any]) -> None:
    registered["result"] = {"actor": 1}
    with pytest.raises(InvalidDataError, match="dict"):
        load_teacher("file:hopper-mine.npz", "test-teacher")


def test_a_registered_object_must_be_a_function() -> None:
    register_teacher("test-number", 3)
    try:
        with pytest.raises(InvalidSettingError, match="int"):
            load_teacher("file:hopper-mine.npz", "test-number")
    finally:
        teachers.unregister("test-number")


def test_an_unknown_name_suggests_a_known_one() -> None:
    with pytest.raises(UnknownNameError, match="iql"):
        load_teacher("file:hopper-mine.npz", "iqll")
