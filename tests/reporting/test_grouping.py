"""Which trials make one row."""

from __future__ import annotations

from obdbench.distillation.settings import DistillSettings
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grouping import build_grids
from obdbench.reporting.suite_results import ResultEntry, SuiteResults
from obdbench.results.record import Result


def entry(dataset: str, code: dict[str, str], score: float = 10.0) -> ResultEntry:
    spec = TrialSpec(
        dataset=dataset,
        objective="dbc",
        protocol="default",
        settings=DistillSettings(),
        seeds=(0, 1),
        code=code,
    )
    record = Result(key=spec.key, suite="lab", spec=spec, status="ok")
    curves = {"default": {seed: ((10, score + seed),) for seed in spec.seeds}}
    return ResultEntry(f"{spec.key}.json", record, curves)


def rows(*entries: ResultEntry) -> list[tuple[str, int, bool]]:
    (grid,) = build_grids(SuiteResults("lab", entries))
    return [(row.label, len(row.cells), row.average is not None) for row in grid.rows]


def test_loaders_in_several_files_make_one_row() -> None:
    apart = entry("lab/a", {"dataset": "47e5"}), entry("lab/b", {"dataset": "cc74"})
    assert rows(*apart) == [("dbc", 2, True)]
    mixed = (
        entry("lab/a", {"objective": "12", "dataset": "47e5"}),
        entry("lab/b", {"objective": "12"}),
    )
    assert [(cells, whole) for _, cells, whole in rows(*mixed)] == [(2, True)]


def test_an_edited_loader_splits_a_row() -> None:
    matching = rows(
        entry("lab/a", {"dataset": "47e5"}),
        entry("lab/a", {"dataset": "0000"}, 20.0),
        entry("lab/b", {"dataset": "cc74"}),
    )
    assert len(matching) == 3


def test_different_code_of_an_objective_makes_another_row() -> None:
    assert len(rows(entry("lab/a", {"objective": "12"}), entry("lab/b", {"objective": "34"}))) == 2


def taught(dataset: str, teacher: str, checksum: str, score: float = 10.0) -> ResultEntry:
    plain = entry(dataset, {}, score)
    spec = plain.spec.model_copy(update={"teacher": teacher, "teacher_checksum": checksum})
    record = plain.record.model_copy(update={"key": spec.key, "spec": spec})
    return ResultEntry(f"{spec.key}.json", record, plain.curves)


def test_each_dataset_of_a_row_has_its_teacher() -> None:
    assert rows(taught("lab/a", "iql", "12"), taught("lab/b", "td3-bc", "34")) == [("dbc", 2, True)]


def test_two_teachers_of_one_dataset_make_two_rows() -> None:
    labels = [label for label, _, _ in rows(taught("lab/a", "iql", "12"), entry("lab/a", {}))]
    assert sorted(labels) == ["dbc (teacher=default)", "dbc (teacher=iql)"]
    labels = [
        label for label, _, _ in rows(taught("lab/a", "iql", "12"), taught("lab/a", "iql", "34"))
    ]
    assert sorted(labels) == ["dbc (teacher_checksum=12)", "dbc (teacher_checksum=34)"]
