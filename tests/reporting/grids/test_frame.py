"""Results as a DataFrame: one row per evaluation point, and one per trial without scores."""

from __future__ import annotations

import shutil

import pytest
from support.result_entries import checked_entry, entry

import obdbench
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.errors import InvalidDataError
from obdbench.reporting.grids.frame import COLUMNS, load_results, results_frame
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import SuiteResults


def test_every_evaluation_point_has_a_row(d4rl, results_root):
    frame = load_results(results_root / "d4rl")
    assert list(frame.columns) == list(COLUMNS)
    scored = frame[frame.status == "ok"]
    n_points = sum(len(c) for e in d4rl.entries for s in e.curves.values() for c in s.values())
    assert len(scored) == n_points
    assert not scored.duplicated(["trial", "arm", "seed", "step"]).any()


def test_failed_and_missing_trials_have_one_row_without_a_score(results_root):
    frame = load_results(results_root / "d4rl")
    rows = frame[frame.status != "ok"]
    assert sorted(rows.status) == ["failed", "missing"]
    assert rows.normalized_return.isna().all()
    assert rows.seed.isna().all()
    assert not rows.in_headline.any()
    assert rows.set_index("status").error["failed"] == "out of memory"
    assert rows.set_index("status").file.isna()["missing"]
    assert rows.label.notna().all()


def assert_scores_of_tables(suites: list[SuiteResults]) -> None:
    """Scores that the documented recipe computes from a frame are those of the table's cells."""
    frame = results_frame(suites)
    keys = ["suite", "protocol", "label", "arm", "dataset", "seed"]
    scores = frame[frame.in_headline].groupby(keys).normalized_return.mean()
    expected = {
        (results.suite, grid.protocol, row.label, row.arm, dataset, seed): score
        for results in suites
        for grid in build_grids(results)
        for row in grid.rows
        for dataset, cell in row.cells.items()
        for seed, score in zip(sorted(cell.curves), cell.scores, strict=True)
    }
    assert scores.to_dict() == pytest.approx(expected)


def test_scores_of_tables_follow_from_the_frame(quick, d4rl):
    assert_scores_of_tables([quick, d4rl])


def test_settings_and_presets_of_one_objective_stay_apart():
    exact = resolve_settings("exact")
    results = SuiteResults(
        "s",
        (
            entry("pbc", {0: 10.0, 1: 12.0}, start=1.0),
            entry("pbc", {0: 20.0, 1: 22.0}, start=1.0, settings=DistillSettings(smoothing=0.3)),
            entry("pbc", {0: 30.0, 1: 32.0}, start=1.0, settings=exact, preset="exact"),
            entry("pbc", {0: 40.0, 1: 42.0}, start=1.0, objective_params={"beta": 0.5}),
            entry("random", {0: 5.0, 1: 6.0}),
            entry("random", {0: 7.0, 1: 8.0}, objective_params={"labels": "teacher"}),
        ),
    )
    assert results_frame([results]).label.nunique() == 6
    assert_scores_of_tables([results])


def test_a_seed_that_two_trials_scored_counts_once():
    fewer, more = entry("pbc", {0: 10.0, 1: 12.0}), entry("pbc", {0: 20.0, 1: 22.0, 2: 24.0})
    results = SuiteResults("s", (fewer, more))
    frame = results_frame([results])
    assert set(frame[frame.in_headline].trial) == {more.record.key}
    assert_scores_of_tables([results])


def test_only_distilled_rows_have_a_preset_and_steps(d4rl):
    frame = results_frame([d4rl])
    budget = frame.groupby("objective")[["preset", "outer_steps", "pairs"]].nunique()
    assert budget.loc["pbc"].gt(0).to_list() == [True, True, True]
    assert budget.loc["random"].gt(0).to_list() == [False, False, True]
    assert budget.loc["bc-whole"].gt(0).to_list() == [False, False, False]


def test_missed_variance_is_that_of_the_latest_check():
    checked = checked_entry("pbc", {0: [1.0, 0.2, 0.3], 1: [1.0, None], 2: []})
    frame = results_frame([SuiteResults("s", (checked,))]).set_index(["seed", "step"])
    shares = frame.missed_variance
    assert shares[0, 0] == 1.0
    assert shares[0, 20] == 0.3
    assert shares[1, 20] == float("inf")
    assert shares[2].isna().all()


def test_a_folder_of_suites_gives_all_suites(results_root):
    frame = obdbench.load_results(results_root)
    assert set(frame.suite) == {"quick", "d4rl"}
    assert frame.trial.nunique() == sum(
        load_results(results_root / suite).trial.nunique() for suite in ("quick", "d4rl")
    )


def test_a_suite_keeps_its_rows_beside_other_folders(results_root, tmp_path):
    shutil.copytree(results_root / "quick", tmp_path / "quick")
    (tmp_path / "quick" / "synsets").mkdir()
    assert set(load_results(tmp_path / "quick").suite) == {"quick"}


def test_a_folder_without_results_is_an_error(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InvalidDataError):
            load_results(folder)
