"""Teachers that suites and command lines name, and their part in the identity of trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.toy_suite import SETTINGS, write_hopper

from obdbench.errors import ObdError, UnknownNameError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import execute, plan
from obdbench.experiments.spec import TrialSpec, label_trials
from obdbench.experiments.suite import Suite, load_suite
from obdbench.teachers.loading import trained_teacher_path
from obdbench.teachers.teacher import Teacher

DATASET = "file:hopper-mine.npz"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_teacher: Teacher) -> None:
    """A folder with a dataset, a teacher file and an empty cache."""
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_hopper(tmp_path / "hopper-mine.npz")
    toy_teacher.save(tmp_path / "mine.safetensors")


def make_suite(*objectives: str, teachers: dict[str, str] | None = None) -> Suite:
    return Suite(
        name="toy",
        datasets=(DATASET,),
        objectives=objectives or ("pbc",),
        protocols=({"name": "default", "params": {"policies": 1, "episodes": 1}},),
        seeds=(0,),
        settings=SETTINGS,
        teachers=teachers or {},
    )


def specs_with(*texts: str, objectives: tuple[str, ...] = ("pbc",)) -> list[TrialSpec]:
    return make_suite(*objectives).select(teachers=texts).specs()


def changed(teacher: Teacher) -> Teacher:
    (weight, bias), *rest = teacher.actor
    return replace(teacher, actor=((weight * 2, bias), *rest))


def test_a_named_teacher_is_part_of_the_key(toy_teacher: Teacher) -> None:
    (spec,) = specs_with("mine.safetensors")
    assert (spec.teacher, spec.teacher_checksum) == ("mine.safetensors", toy_teacher.checksum)
    (plain,) = specs_with()
    assert plain.teacher is None
    assert len({spec.key, plain.key}) == len({spec.distill_key, plain.distill_key}) == 2


def test_a_changed_file_makes_another_trial(toy_teacher: Teacher) -> None:
    (before,) = specs_with("mine.safetensors")
    changed(toy_teacher).save(Path("mine.safetensors"))
    (after,) = specs_with("mine.safetensors")
    assert before.key != after.key
    assert len(set(label_trials([before, after]))) == 2


def test_objectives_without_a_teacher_keep_their_trials() -> None:
    with_teacher = specs_with("mine.safetensors", objectives=("dbc", "random"))
    assert with_teacher == specs_with(objectives=("dbc", "random"))


def test_absent_fields_are_neither_hashed_nor_written() -> None:
    (spec,) = specs_with()
    assert not {"teacher", "teacher_checksum"} & set(spec.model_dump(mode="json"))
    assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_suite_file_names_teachers_by_dataset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'datasets = ["{DATASET}", "embedded/hopper-medium-v1"]\nobjectives = ["pbc"]\n'
        f'[teachers]\n"{DATASET}" = "mine.safetensors"\n'
    )
    named, own = load_suite(str(path)).specs()
    assert (named.teacher, own.teacher) == ("mine.safetensors", None)
    path.write_text(path.read_text().replace(f'"{DATASET}" =', '"file:other.npz" ='))
    with pytest.raises(UnknownNameError):
        load_suite(str(path)).specs()


def test_a_command_line_names_teachers_of_one_or_all_datasets(tmp_path: Path) -> None:
    suite = make_suite(teachers={DATASET: "td3-bc"})
    assert suite.select(teachers=["a.zip"]).teachers == {DATASET: "a.zip"}
    assert suite.select(teachers=[f"{DATASET}=b.zip"]).teachers == {DATASET: "b.zip"}
    assert suite.select(datasets=["embedded/hopper-medium-v1"]).teachers == {}
    path = tmp_path / "lr=0.1.pt"
    path.touch()
    for text in (str(path), f"{DATASET}={path}"):
        assert suite.select(teachers=[text]).teachers == {DATASET: str(path)}
    with pytest.raises(UnknownNameError):
        suite.select(teachers=["embedded/hopper-medium-v1=b.zip"])


def test_a_trained_default_is_named(toy_teacher: Teacher) -> None:
    toy_teacher.save(trained_teacher_path(DATASET, "iql"))
    (spec,) = specs_with()
    assert (spec.teacher, spec.teacher_checksum) == ("iql", toy_teacher.checksum)


@pytest.mark.usefixtures("in_process")
def test_a_run_records_the_named_teacher(tmp_path: Path, toy_teacher: Teacher) -> None:
    suite = make_suite().select(teachers=["mine.safetensors"])
    config = ExecutionConfig(out=tmp_path / "results", workers=1)
    (result,) = execute(plan(suite, config)).results.values()
    assert result.status == "ok"
    assert result.teacher is not None
    assert result.teacher.checksum == result.spec.teacher_checksum == toy_teacher.checksum


@pytest.mark.usefixtures("in_process")
def test_a_teacher_that_changes_after_planning_fails_the_trial(
    tmp_path: Path, toy_teacher: Teacher
) -> None:
    config = ExecutionConfig(out=tmp_path / "results", workers=1)
    planned = plan(make_suite().select(teachers=["mine.safetensors"]), config)
    changed(toy_teacher).save(Path("mine.safetensors"))
    (result,) = execute(planned).results.values()
    assert result.status == "failed"
    assert "has changed" in (result.error or "")


def test_an_unreadable_teacher_writes_nothing(tmp_path: Path) -> None:
    Path("mine.safetensors").write_bytes(b"junk")
    with pytest.raises(ObdError) as caught:
        specs_with("mine.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()
