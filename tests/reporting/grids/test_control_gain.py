"""What distillation adds: gains over selected pairs with the same labels, and marks of losses."""

from __future__ import annotations

import pytest
from scipy.stats import t
from support.result_entries import HOPPER, TWO, WALKER, entry

from obdbench.distillation.settings import DistillSettings
from obdbench.reporting.grids.control_gain import gain_over_controls
from obdbench.reporting.grids.grid import Grid, Row
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import ResultEntry, SuiteResults
from obdbench.reporting.tables.captions import GAIN_OVER_SELECTION, summary_caption
from obdbench.reporting.tables.leaderboard_tables import scores_table, summary_table

TEACHER_LABELS = {"objective_params": {"labels": "teacher"}, "teacher_checksum": "a"}


def distilled(name: str, scores: dict[int, float], dataset: str = HOPPER, **more) -> ResultEntry:
    return entry(name, scores, dataset, **{"start": 1.0, "teacher_checksum": "a", **more})


def grid_of(*entries: ResultEntry) -> Grid:
    (grid,) = build_grids(SuiteResults("s", entries))
    return grid


def row_of(grid: Grid, label: str) -> Row:
    (row,) = [row for row in grid.rows if row.label == label]
    return row


def test_the_gain_is_that_over_the_best_control_with_the_same_labels():
    grid = grid_of(
        distilled("pbc", {0: 30.0, 1: 32.0}),
        distilled("pbc", {0: 20.0, 1: 26.0}, WALKER),
        entry("random", {0: 50.0, 1: 50.0}),
        entry("random", {0: 50.0, 1: 50.0}, WALKER),
        entry("random", {0: 25.0, 1: 26.0}, **TEACHER_LABELS),
        entry("random", {0: 10.0, 1: 12.0}, WALKER, **TEACHER_LABELS),
        entry("kmeans++", {0: 22.0, 1: 26.0}, **TEACHER_LABELS),
        entry("kmeans++", {0: 21.0, 1: 21.0}, WALKER, **TEACHER_LABELS),
    )
    gain = gain_over_controls(grid, row_of(grid, "pbc"))
    assert gain.control.label == "kmeans++ (labels=teacher)"
    assert gain.datasets == TWO
    # differences by seed: 8 and 6 on hopper, -1 and 5 on walker2d
    assert gain.interval.estimate == pytest.approx((7.0 + 2.0) / 2)
    # variances of the means: 1 and 9; degrees of freedom 10² / (1² + 9²) (Welch, 1947)
    assert gain.interval.high - 4.5 == pytest.approx(t.ppf(0.975, 100 / 82) * 10**0.5 / 2)


def test_controls_are_cloned_with_the_noise_of_the_row():
    noisy, plain = DistillSettings(noise="published"), DistillSettings()
    grid = grid_of(
        distilled("pbc", {0: 30.0, 1: 32.0}, settings=noisy),
        entry("random", {0: 25.0, 1: 26.0}, settings=plain, **TEACHER_LABELS),
        entry("kmeans++", {0: 15.0, 1: 16.0}, settings=noisy, **TEACHER_LABELS),
    )
    gain = gain_over_controls(grid, row_of(grid, "pbc"))
    assert gain is not None
    assert gain.control.objective == "kmeans++"


def test_pairs_that_are_not_distilled_have_the_labels_that_they_start_with():
    grid = grid_of(entry("pbc", {0: 1.0}, settings=DistillSettings(steps=0, init_labels="teacher")))
    (row,) = grid.rows
    assert (row.method, row.labels) == ("selection", "teacher")


def test_dbc_is_measured_against_labels_of_the_data():
    grid = grid_of(
        distilled("dbc", {0: 30.0, 1: 32.0}, teacher_checksum=None),
        entry("top-q", {0: 20.0, 1: 21.0}, teacher_checksum="a"),
        entry("top-q", {0: 25.0, 1: 26.0}, **TEACHER_LABELS),
    )
    gain = gain_over_controls(grid, row_of(grid, "dbc"))
    assert gain.control.label == "top-q"
    assert gain.interval.estimate == pytest.approx(10.5)


def test_the_caption_names_the_objectives_of_each_source_of_actions():
    grid = grid_of(
        distilled("dbc", {0: 30.0, 1: 32.0}, teacher_checksum=None),
        distilled("mine", {0: 30.0, 1: 32.0}, teacher_checksum=None),
        distilled("pbc", {0: 30.0, 1: 32.0}),
        entry("top-q", {0: 20.0, 1: 21.0}, teacher_checksum="a"),
        entry("top-q", {0: 25.0, 1: 26.0}, **TEACHER_LABELS),
    )
    assert (
        scores_table(grid)
        .notes[-1]
        .endswith(
            "The best selection is top-q for dbc, mine (actions of the data) and "
            "top-q (labels=teacher) for pbc (actions of the teacher)."
        )
    )


def test_the_gain_covers_the_datasets_that_both_rows_have_completely():
    grid = grid_of(
        distilled("pbc", {0: 30.0, 1: 32.0}),
        distilled("pbc", {0: 90.0, 1: 92.0}, WALKER),
        entry("random", {0: 20.0, 1: 22.0}, **TEACHER_LABELS),
    )
    gain = gain_over_controls(grid, row_of(grid, "pbc"))
    assert gain.datasets == (HOPPER,)
    assert gain.interval.estimate == pytest.approx(10.0)
    cells = scores_table(grid).rows[0]
    assert "1 of 2 datasets" in cells[scores_table(grid).columns.index(GAIN_OVER_SELECTION)].text


def test_only_expected_datasets_count():
    trials = [
        distilled("pbc", {0: 30.0, 1: 32.0}),
        entry("random", {0: 20.0, 1: 22.0}, **TEACHER_LABELS),
        distilled("pbc", {0: 90.0, 1: 92.0}, WALKER),
        entry("random", {0: 20.0, 1: 22.0}, WALKER, **TEACHER_LABELS),
    ]
    expected = {trial.record.key: trial.spec for trial in trials[:2]}
    for entries in (trials[:3], trials):
        (grid,) = build_grids(SuiteResults("s", tuple(entries), expected, has_manifest=True))
        gain = gain_over_controls(grid, row_of(grid, "pbc"))
        assert gain.datasets == (HOPPER,)
        for table in (scores_table(grid), summary_table(grid)):
            assert not any("datasets" in cell.text for row in table.rows for cell in row)
        assert "mean over 1 dataset " in summary_caption(grid)


@pytest.mark.parametrize(
    "control",
    [
        entry("random", {0: 1.0, 1: 2.0}),
        entry(
            "random", {0: 1.0, 1: 2.0}, objective_params={"labels": "teacher"}, teacher_checksum="b"
        ),
        entry("random", {0: 1.0, 1: 2.0}, **TEACHER_LABELS, settings=DistillSettings(pairs=16)),
        entry("random", {0: 1.0, 1: 2.0}, **TEACHER_LABELS, protocol_params={"policies": 2}),
        entry(
            *("random", {0: 1.0, 1: 2.0}),
            **TEACHER_LABELS,
            settings=DistillSettings(architecture="mlp2"),
        ),
    ],
    ids=["other labels", "another teacher", "fewer pairs", "another protocol", "other students"],
)
def test_rows_that_differ_in_more_than_distillation_are_no_controls(control):
    grid = grid_of(distilled("pbc", {0: 30.0, 1: 32.0}), control)
    assert all(gain_over_controls(grid, row) is None for row in grid.rows)
    column = scores_table(grid).columns.index(GAIN_OVER_SELECTION)
    assert {row[column].text for row in scores_table(grid).rows} == {"–"}


def test_only_ranked_rows_that_end_below_their_start_are_marked():
    grid = grid_of(
        distilled("pbc", {0: 30.0, 1: 32.0}, start=40.0),
        distilled("pbc", {0: 90.0, 1: 92.0}, WALKER),
        distilled("sdw", {0: 30.0, 1: 32.0}, start=40.0),
        distilled("sdw", {0: 9.0, 1: 9.0}, WALKER, start=9.0),
        entry("random", {0: 1.0, 1: 2.0}),
        entry("random", {0: 1.0, 1: 2.0}, WALKER),
    )
    assert row_of(grid, "pbc").cells[HOPPER].change == pytest.approx(-9.0)
    assert row_of(grid, "pbc").change == pytest.approx((-9.0 + 90.0) / 2)
    table = scores_table(grid)
    marked = {
        (row[0].text, column)
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
        if "↓" in cell.text
    }
    hopper = "hopper medium"
    assert marked == {("pbc", hopper), ("sdw", hopper), ("sdw", "average")}
    assert any("lower score than its initial pairs" in note for note in table.notes)
    start = grid_of(entry("random", {0: 1.0, 1: 2.0}))
    assert not any("↓" in note for note in scores_table(start).notes)


def test_rows_are_ordered_by_method_and_budget():
    grid = grid_of(
        distilled("sdw", {0: 30.0, 1: 30.0}, settings=DistillSettings(steps=500)),
        distilled("pbc", {0: 10.0, 1: 10.0}, settings=DistillSettings(steps=50)),
        distilled("dbc", {0: 40.0, 1: 40.0}, settings=DistillSettings(steps=50)),
        entry("behavior", {0: 70.0, 1: 70.0}),
        entry("random", {0: 5.0, 1: 5.0}),
        entry("top-q", {0: 95.0, 1: 95.0}),
        entry("mine", {0: 50.0, 1: 50.0}),
    )
    rows = [(row.objective, row.method) for row in grid.sorted_rows()]
    assert rows == [
        *((name, "distillation") for name in ("dbc", "pbc", "sdw")),
        *((name, "selection") for name in ("top-q", "mine", "random")),
        ("behavior", "whole data"),
    ]
    assert [grid.rank(row) for row in grid.sorted_rows()] == [3, 5, 4, 1, 2, 6, None]
    by_average = [row.objective for row in grid.rows_by_average()]
    assert by_average == ["dbc", "sdw", "pbc", "top-q", "mine", "random", "behavior"]


def test_budgets_with_negative_averages_are_ordered_by_them():
    grid = grid_of(
        distilled("pbc", {0: -30.0}, settings=DistillSettings(steps=50)),
        distilled("dbc", {0: -10.0}, settings=DistillSettings(steps=500)),
    )
    assert [row.objective for row in grid.sorted_rows()] == ["dbc", "pbc"]


def test_the_caption_names_solver_and_states():
    settings = DistillSettings(kernel_share=0.95, smoothing=0.2)
    grid = grid_of(distilled("pbc", {0: 1.0}, settings=settings), distilled("dbc", {0: 1.0}))
    notes = " ".join(scores_table(grid).notes)
    assert "Distillation of pbc: up to 95% of the steps are infinite-width steps" in notes
    assert "noise of 0.2 standard deviations" in notes
    assert "Distillation of dbc: every step uses exact meta-gradients" in notes
