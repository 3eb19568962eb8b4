"""Results as a DataFrame: one row per evaluation point, and one per trial without scores."""

from __future__ import annotations

import shutil

import pytest
from support.result_entries import checked_entry

import obdbench
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


def test_headline_scores_follow_from_the_frame(d4rl):
    frame = results_frame([d4rl])
    by_seed = ["objective", "dataset", "protocol", "arm", "pairs", "seed"]
    scores = frame[frame.in_headline].groupby(by_seed).normalized_return.mean()
    part = next(grid for grid in build_grids(d4rl) if grid.protocol == "default")
    for row in part.rows:
        for dataset, cell in row.cells.items():
            for seed, score in zip(sorted(cell.curves), cell.scores, strict=True):
                key = (row.objective, dataset, "default", "default", 256, seed)
                assert scores[key] == pytest.approx(score)


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
