"""Which trials make one row."""

from __future__ import annotations

from typing import Any

from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import ResultEntry, SuiteResults
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


def test_a_teacher_that_was_trained_again_leaves_the_row_complete() -> None:
    def used(started: str, dataset: str, checksum: str, score: float) -> ResultEntry:
        plain = taught(dataset, "td3-bc", checksum, score)
        timing = plain.record.timing.model_copy(update={"started": started})
        return ResultEntry(
            plain.file, plain.record.model_copy(update={"timing": timing}), plain.curves
        )

    old = used("2026-01-01T00:00:00", "lab/a", "12", 10.0)
    new = used("2026-01-02T00:00:00", "lab/a", "34", 30.0)
    other = used("2026-01-01T00:00:00", "lab/b", "56", 20.0)
    for entries in ((old, new, other), (new, other, old)):
        (grid,) = build_grids(SuiteResults("lab", entries))
        averages = {row.label: row.average for row in grid.rows}
        assert averages == {"dbc": 25.5, "dbc (teacher_checksum=12)": None}


def labels_of(*specs: TrialSpec) -> list[str]:
    entries = []
    for spec in specs:
        record = Result(key=spec.key, suite="lab", spec=spec, status="ok")
        curves = {"default": dict.fromkeys(spec.seeds, ((10, 1.0),))}
        entries.append(ResultEntry(f"{spec.key}.json", record, curves))
    return sorted(label for label, _, _ in rows(*entries))


def spec_of(objective: str, settings: DistillSettings, **fields: Any) -> TrialSpec:
    return TrialSpec(
        dataset="lab/a", objective=objective, settings=settings, seeds=(0, 1), **fields
    )


def test_settings_of_the_preset_are_not_part_of_a_label() -> None:
    usual, exact = resolve_settings("fast"), resolve_settings("fast", {"kernel_share": 0.0})
    assert labels_of(spec_of("pbc", usual), spec_of("pbc", exact)) == [
        "pbc",
        "pbc (kernel_share=0.0)",
    ]


def test_a_setting_and_a_protocol_parameter_of_one_name_are_both_part_of_a_label():
    trials = [
        spec_of(
            "pbc",
            resolve_settings("fast", {"steps": steps}),
            protocol="ensemble",
            protocol_params={"steps": own},
        )
        for steps, own in ((300, 1000), (500, 1000), (500, 2000))
    ]
    assert labels_of(*trials[:2]) == ["pbc (steps=300)", "pbc (steps=500)"]
    assert labels_of(*trials[1:]) == ["pbc (ensemble steps=1000)", "pbc (ensemble steps=2000)"]


def test_rows_of_another_preset_than_most_are_labeled_with_it() -> None:
    fast, smooth = resolve_settings("fast"), resolve_settings("fast", {"smoothing": 0.3})
    exact = resolve_settings("exact")
    assert labels_of(
        spec_of("pbc", fast), spec_of("pbc", smooth), spec_of("pbc", exact, preset="exact")
    ) == ["pbc", "pbc (preset=exact)", "pbc (smoothing=0.3)"]
    assert labels_of(spec_of("pbc", fast), spec_of("pbc", exact, preset="exact")) == [
        "pbc",
        "pbc (preset=exact)",
    ]


def test_an_absent_parameter_differs_from_null() -> None:
    absent = spec_of("pbc", DistillSettings())
    null = spec_of("pbc", DistillSettings(), protocol_params={"limit": None})
    assert labels_of(absent, null) == ["pbc", "pbc (limit=null)"]


def test_parameters_of_a_baseline_are_part_of_its_label_only_if_they_differ() -> None:
    small = spec_of("bc-whole", DistillSettings(), objective_params={"batch": 64, "lr": 0.1})
    large = spec_of("bc-whole", DistillSettings(), objective_params={"batch": 256, "lr": 0.1})
    assert labels_of(small) == ["bc-whole"]
    assert labels_of(small, large) == ["bc-whole (batch=256)", "bc-whole (batch=64)"]
