"""Teachers of the embedded datasets: written in half precision, with a card, and scored."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from baselines import offline_rl
from obdbench.collection.recipe import save_collection
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError, UnknownNameError
from obdbench.offline_rl.trainer import train_teachers
from obdbench.teachers.teacher import Teacher

DATASET_ID = "embedded/hopper-medium-v1"
SMALL = {"width": 8, "batch_size": 16}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(DATASET_ID)


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch):
    monkeypatch.setattr(offline_rl, "EPISODES", 2)


def test_a_teacher_is_written_as_it_is_read_again(dataset, tmp_path):
    (path,) = offline_rl.train_and_publish([dataset], "iql", 3, SMALL, tmp_path, tmp_path / "work")
    card = json.loads(path.with_suffix(".json").read_text())
    teacher = Teacher.load(path)
    assert path.name == "hopper-medium-v1-teacher.safetensors"
    assert card["checksum"] == teacher.checksum
    assert card["steps"] == 3
    assert card["measured"]["episodes"] == 2
    assert card["data"]["checksum"] == dataset.checksum
    (exact,) = train_teachers([dataset], "iql", steps=3, settings=SMALL, progress=False)
    rounded = offline_rl.in_half_precision(exact)
    assert np.array_equal(
        teacher.act(dataset.observations[:9]), rounded.act(dataset.observations[:9])
    )


def test_the_full_collection_is_used_where_it_was_rebuilt(dataset, tmp_path):
    full = replace(dataset, rewards=dataset.rewards + 1.0)
    save_collection(full, tmp_path / "hopper-medium-v1.npz")
    assert offline_rl.full_collection(DATASET_ID, tmp_path).checksum == full.checksum
    assert offline_rl.full_collection(DATASET_ID, tmp_path / "none").checksum == dataset.checksum


@pytest.mark.parametrize(
    ("algorithm", "row"), [("td3-bc", "td3-bc-whole"), ("Cal-QL", "cal-ql-whole")]
)
def test_the_row_of_a_teacher_is_named_after_its_algorithm(
    algorithm, row, dataset, toy_teacher, tmp_path
):
    teacher = replace(toy_teacher, card={"algorithm": algorithm})
    result = offline_rl.teacher_row(dataset, teacher, tmp_path / "suite", episodes=2)
    assert result.spec.objective == row
    assert result.teacher is not None
    assert len(result.points) == 1
    assert len(list((tmp_path / "suite").glob("*.json"))) == 1


def test_rows_with_other_settings_do_not_replace_each_other(dataset, tmp_path):
    results = []
    for settings in ({}, {"expectile": 0.9}):
        (teacher,) = train_teachers(
            [dataset], "iql", steps=1, settings={**SMALL, **settings}, progress=False
        )
        results.append(offline_rl.teacher_row(dataset, teacher, tmp_path / "suite", episodes=2))
    assert [result.spec.objective_params for result in results] == [
        SMALL,
        {**SMALL, "expectile": 0.9},
    ]
    assert len(list((tmp_path / "suite").glob("*.json"))) == 2


def test_a_teacher_of_another_algorithm_has_no_row(dataset, toy_teacher, tmp_path):
    teacher = replace(toy_teacher, card={"algorithm": "fitted-q"})
    with pytest.raises(InvalidDataError):
        offline_rl.teacher_row(dataset, teacher, tmp_path / "suite", episodes=2)
    assert not (tmp_path / "suite").exists()


def test_the_rows_are_those_of_the_teachers_in_the_folder(dataset, toy_teacher, tmp_path, capsys):
    path = offline_rl.teacher_path(DATASET_ID, tmp_path)
    replace(toy_teacher, card={"algorithm": "iql"}).save(path)
    folders = ["--teachers", str(tmp_path), "--out", str(tmp_path / "suite")]
    offline_rl.main(["--dataset", DATASET_ID, "--rows-only", *folders])
    assert "iql-whole" in capsys.readouterr().out


def test_settings_of_the_algorithm_are_given_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(offline_rl, "TEACHERS", tmp_path)
    small = ["--set", "width=8", "--set", "batch_size=16", "--set", "penalty_rows=4"]
    folders = ["--work", str(tmp_path / "work"), "--collections", str(tmp_path), "--no-rows"]
    options = ["--algorithm", "cal-ql", "--steps", "2", *small, *folders]
    offline_rl.main(["--dataset", DATASET_ID, *options])
    card = json.loads((tmp_path / "hopper-medium-v1-teacher.json").read_text())
    assert card["settings"]["penalty_rows"] == 4
    with pytest.raises(UnknownNameError):
        offline_rl.main(["--dataset", DATASET_ID, *options, "--set", "penalty=4"])
