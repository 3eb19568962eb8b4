"""``train_teacher`` and ``obdbench teach``: a teacher in the cache that later commands find."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import obdbench
from obdbench.datasets.loading import load_dataset
from obdbench.distillation.input_checks import check_teacher_data, check_teacher_task
from obdbench.errors import InvalidDataError
from obdbench.teachers.loading import find_trained_teachers, trained_teacher_path

FAST = ["--steps", "4", "--set", "width=8", "--set", "batch_size=16", "--episodes", "1"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))


def write_hopper_file(path):
    source = load_dataset("embedded/hopper-medium-v1")
    names = ("observations", "actions", "rewards", "terminals", "next_observations", "timeouts")
    np.savez(path, **{name: getattr(source, name)[:500] for name in names})
    return f"file:{path}"


def test_a_trained_teacher_is_found_by_the_identifier_of_its_dataset(tmp_path, monkeypatch):
    dataset_id = write_hopper_file(tmp_path / "hopper-mine.npz")
    teacher = obdbench.train_teacher(
        dataset_id,
        "iql",
        steps=3,
        settings={"width": 8, "batch_size": 16},
        episodes=2,
        progress=False,
    )
    assert teacher.card["measured"]["episodes"] == 2
    assert obdbench.load_teacher(dataset_id).checksum == teacher.checksum
    assert list(find_trained_teachers(dataset_id)) == ["iql"]
    monkeypatch.chdir(tmp_path)
    assert obdbench.load_teacher("file:hopper-mine.npz").checksum == teacher.checksum


def test_names_of_different_datasets_differ():
    first = trained_teacher_path("minari/a/b-v0", "iql")
    second = trained_teacher_path("minari/c/b-v0", "iql")
    assert first != second


def test_teach_prints_the_card_and_exports_the_teacher(call, tmp_path):
    dataset_id = write_hopper_file(tmp_path / "hopper-mine.npz")
    export = tmp_path / "teacher.safetensors"
    code, out, _ = call("teach", dataset_id, *FAST)
    assert code == 0
    assert "of Hopper-v4." in out
    assert "of the variance of the data's actions" in out
    code, out, _ = call("teach", dataset_id, *FAST, "--card", "--export", str(export))
    assert code == 0
    card = json.loads(out)
    assert card["algorithm"] == "td3-bc"
    assert card["measured"]["environment"] == "Hopper-v4"
    assert export.is_file()


def test_a_finished_teacher_is_kept_unless_a_fresh_one_is_asked_for(call, tmp_path):
    dataset_id = write_hopper_file(tmp_path / "hopper-mine.npz")
    assert call("teach", dataset_id, *FAST)[0] == 0
    before = obdbench.load_teacher(dataset_id)
    code, out, err = call("teach", dataset_id, *FAST)
    assert code == 0
    assert "Later commands find this teacher" in out
    assert "--fresh" in err
    code, out, err = call("teach", dataset_id, *FAST, "--seed", "5")
    assert (code, out) == (2, "")
    assert "seed" in err
    assert err.count("\n") == 1
    assert obdbench.load_teacher(dataset_id).checksum == before.checksum
    assert call("teach", dataset_id, *FAST, "--seed", "5", "--fresh")[0] == 0
    assert obdbench.load_teacher(dataset_id).card["seed"] == 5


def test_one_episode_has_no_standard_deviation(call, tmp_path):
    dataset_id = write_hopper_file(tmp_path / "hopper-mine.npz")
    _, out, _ = call("teach", dataset_id, *FAST, "--episodes", "1")
    (line,) = [line for line in out.splitlines() if line.startswith("Score:")]
    assert line.endswith("over 1 episode of Hopper-v4.")
    assert "±" not in line


def test_teach_refuses_an_unknown_algorithm_in_one_line(call, tmp_path):
    dataset_id = write_hopper_file(tmp_path / "hopper-mine.npz")
    code, _, err = call("teach", dataset_id, "--algorithm", "td3bc")
    assert code == 2
    assert "td3-bc" in err
    assert err.count("\n") == 1


def test_a_teacher_is_kept_if_its_measurement_is_interrupted(tmp_path, monkeypatch):
    dataset_id = write_hopper_file(tmp_path / "hopper-mine.npz")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("obdbench.offline_rl.api.measure_return", interrupt)
    settings = {"width": 8, "batch_size": 16}
    with pytest.raises(KeyboardInterrupt):
        obdbench.train_teacher(dataset_id, steps=3, settings=settings, progress=False)
    assert obdbench.load_teacher(dataset_id).card["steps"] == 3


def test_a_teacher_of_other_data_in_the_same_file_is_refused(tmp_path):
    dataset_id = write_hopper_file(tmp_path / "hopper-mine.npz")
    settings = {"width": 8, "batch_size": 16}
    teacher = obdbench.train_teacher(
        dataset_id, steps=3, settings=settings, episodes=0, progress=False
    )
    dataset = load_dataset(dataset_id)
    check_teacher_data(teacher, dataset)
    with pytest.raises(InvalidDataError, match="other data"):
        check_teacher_data(teacher, replace(dataset, rewards=dataset.rewards + 1))


@pytest.mark.parametrize("name", ["hopper-v5-mine", "walker2d-mine"])
def test_a_teacher_of_a_file_in_a_folder_matches_its_dataset(tmp_path, name):
    (tmp_path / "data").mkdir()
    task = "#task=hopper" if name.startswith("walker2d") else ""
    dataset_id = write_hopper_file(tmp_path / "data" / f"{name}.npz") + task
    settings = {"width": 8, "batch_size": 16}
    teacher = obdbench.train_teacher(
        dataset_id, steps=3, settings=settings, episodes=0, progress=False
    )
    check_teacher_task(teacher, load_dataset(dataset_id))
