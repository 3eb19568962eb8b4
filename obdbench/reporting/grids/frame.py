"""Results as a pandas DataFrame."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grids.grid import Row
from obdbench.reporting.grids.grouping import build_grids, curves_in_row
from obdbench.reporting.grids.suite_results import (
    SuiteResults,
    find_suite_folders,
    is_suite_folder,
    read_suite_results,
)
from obdbench.results.headline import HEADLINE_POINTS, distilled_points
from obdbench.results.student_checks import missed_variance

COLUMNS = {
    "suite": "string",
    "trial": "string",  # key of the trial
    "file": "string",  # name of the result file; missing where there is none
    "status": "string",  # ok, failed, timeout or missing
    "error": "string",
    "source": "string",  # source of the dataset
    "dataset": "string",
    "label": "string",  # name of the row in the tables, unique within suite, source and protocol
    "objective": "string",
    "objective_params": "string",  # JSON
    "protocol": "string",
    "protocol_params": "string",  # JSON
    "preset": "string",  # missing where nothing is distilled, as outer_steps
    "outer_steps": "Int64",  # outer steps of the whole distillation
    "pairs": "Int64",  # missing where the whole data is used
    "arm": "string",  # architecture, optimizer, number of pairs, "default" or "ensemble"
    "seed": "Int64",
    "step": "Int64",  # outer step of the evaluation point
    "normalized_return": "float64",
    "missed_variance": "float64",  # of the latest check of students up to the step, if any
    "in_headline": "bool",  # whether the point counts in the score of its seed in the tables
}


def load_results(folder: Path | str = "results", *, strict: bool = False) -> pd.DataFrame:
    """Load the results of one suite or of a folder of suites as a DataFrame.

    There is one row per trial, seed, arm and evaluation step. A trial without scores has one row
    with its status (``failed``, ``timeout`` or ``missing``). The scores of the seeds in the tables
    are::

        keys = ["suite", "protocol", "label", "arm", "dataset", "seed"]
        frame[frame.in_headline].groupby(keys).normalized_return.mean()

    Unreadable files are skipped with a warning; with ``strict`` they are an error.
    """
    root = Path(folder)
    suites = [root] if is_suite_folder(root) else find_suite_folders(root)
    if not suites:
        raise InvalidDataError(
            f"{root} holds no results.", "Give a folder of results, such as results/quick."
        )
    return results_frame(read_suite_results(suite, strict) for suite in suites)


def results_frame(suites: Iterable[SuiteResults]) -> pd.DataFrame:
    """One row per trial, seed, arm and evaluation step, and one per trial without scores."""
    rows = [row for results in suites for row in _rows(results)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _rows(results: SuiteResults) -> Iterator[tuple[Any, ...]]:
    table_rows: dict[str, list[Row]] = defaultdict(list)  # by key of the trial, one per arm
    for row in (row for grid in build_grids(results) for row in grid.rows):
        for key in row.trials:
            table_rows[key].append(row)
    no_score = (None, None, None, math.nan, math.nan, False)
    for entry in results.entries:
        spec, record = entry.spec, entry.record
        rows = table_rows[record.key]
        trial = _trial(results.suite, rows[0], spec, entry.file, record.status, record.error)
        if not entry.curves:
            yield (*trial, *no_score)
        for row in rows:
            used = row.cells[spec.dataset].curves
            for seed, curve in sorted(curves_in_row(entry, row.arm).items()):
                counted = {step for step, _ in distilled_points(curve)[-HEADLINE_POINTS:]}
                checks = record.student_checks.get(str(seed), [])
                for step, score in curve:
                    missed = [missed_variance(check) for check in checks if check.step <= step]
                    latest = missed[-1] if missed else math.nan
                    in_headline = used[seed] is curve and step in counted
                    yield (*trial, row.arm, seed, step, score, latest, in_headline)
    for key, spec in results.missing.items():
        row = table_rows[key][0]
        yield (*_trial(results.suite, row, spec, None, "missing", None), *no_score)


def _trial(
    suite: str, row: Row, spec: TrialSpec, file: str | None, status: str, error: str | None
) -> tuple[Any, ...]:
    distilled = row.method == "distillation"
    return (
        suite,
        spec.key,
        file,
        status,
        error,
        DatasetId(spec.dataset).source,
        spec.dataset,
        row.label,
        spec.objective,
        json.dumps(spec.objective_params, sort_keys=True),
        spec.protocol,
        json.dumps(spec.protocol_params, sort_keys=True),
        spec.preset if distilled else None,
        spec.settings.steps if distilled else None,
        None if row.is_baseline else spec.settings.pairs,
    )
