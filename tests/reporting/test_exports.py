"""Tables of a suite as CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from support.result_entries import HOPPER, entry

from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidDataError, UnknownNameError
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.exports import CSV_COLUMNS, Leaderboards, export_results, scores_csv
from obdbench.reporting.grids.suite_results import SuiteResults, make_entry
from obdbench.reporting.tables.suite_report import build_report
from obdbench.results.record import Result


@pytest.fixture
def folder(results_root: Path) -> Path:
    return results_root / "quick"


def test_csv_has_a_line_per_score(folder: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(export_results(folder, "csv"))))
    assert tuple(lines[0]) == CSV_COLUMNS
    assert {line["status"] for line in lines} <= {"ok", "failed", "timeout", "missing"}
    assert any(line["normalized_return"] for line in lines)


def test_csv_tells_failed_seeds_from_missing_ones() -> None:
    scored = entry("pbc", {0: 10.0})
    failed, missing = (
        TrialSpec(objective="pbc", dataset=HOPPER, seeds=seeds) for seeds in ((1,), (2, 3))
    )
    record = Result.unfinished(failed, "s", "failed", "no reason")
    entries = (scored, make_entry(record, f"{record.key}.json"))
    expected = {spec.key: spec for spec in (scored.spec, failed, missing)}
    results = SuiteResults("s", entries, expected, has_manifest=True)
    lines = csv.DictReader(io.StringIO(scores_csv(build_report(results))))
    assert {line["seed"]: line["status"] for line in lines} == {
        "0": "ok",
        "1": "failed",
        "2": "missing",
        "3": "missing",
    }


def test_json_follows_the_schema(folder: Path) -> None:
    content = Leaderboards.model_validate(json.loads(export_results(folder, "json")))
    assert list(content.suites) == ["quick"]
    assert content.suites["quick"][0].rows


def test_latex_has_a_row_per_row_of_each_table(folder: Path) -> None:
    content = Leaderboards.model_validate(json.loads(export_results(folder, "json")))
    text = export_results(folder, "latex")
    lines = text.splitlines()
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") >= 1
    first = lines[: lines.index("\\end{tabular}")]
    body = [line for line in first if line.endswith("\\\\")]
    main = next(grid for grid in content.suites["quick"] if grid.protocol == "default")
    assert len(body) == 1 + len(main.rows)
    assert len({line.count("&") for line in body}) == 1


def test_wrong_formats_and_folders_are_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        export_results(folder, "xlsx")
    with pytest.raises(InvalidDataError):
        export_results(tmp_path, "csv")


def test_command_prints_tables_or_writes_them(call, folder: Path, tmp_path: Path) -> None:
    code, printed, _ = call("export", str(folder), "--format", "latex")
    assert code == 0
    assert printed == export_results(folder, "latex")
    code, _, _ = call("export", str(folder), "--to", "tables/quick.tex")
    assert code == 0
    assert (tmp_path / "tables" / "quick.tex").read_text() == printed


def test_command_refuses_a_file_whose_suffix_belongs_to_no_format(call, folder, tmp_path) -> None:
    for name in ("t.npz", "t"):
        code, _, error = call("export", str(folder), "--to", name)
        assert code == 2
        assert "--format" in error
        assert not (tmp_path / name).exists()
    code, _, _ = call("export", str(folder), "--to", "t.txt", "--format", "csv")
    assert code == 0
    assert (tmp_path / "t.txt").read_text() == export_results(folder, "csv")


def test_command_exports_a_synset(call, toy_dataset, tmp_path: Path) -> None:
    rows = slice(0, 5)
    synset = Synset(
        toy_dataset.states[rows],
        toy_dataset.actions[rows],
        toy_dataset.standardizer,
        toy_dataset.task,
    )
    path = str(synset.save(tmp_path / "s.safetensors"))
    code, _, error = call("export", path)
    assert code == 2
    assert "--to" in error
    code, _, _ = call("export", path, "--to", "pairs.npz")
    assert code == 0
    assert np.array_equal(np.load(tmp_path / "pairs.npz")["actions"], synset.actions)
