"""Results as a pandas DataFrame."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError
from obdbench.experiments.spec import TrialSpec
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
    "objective": "string",
    "objective_params": "string",  # JSON
    "protocol": "string",
    "protocol_params": "string",  # JSON
    "preset": "string",
    "outer_steps": "Int64",  # outer steps of the whole distillation
    "pairs": "Int64",
    "arm": "string",  # architecture, optimizer, "default" or "ensemble"
    "seed": "Int64",
    "step": "Int64",  # outer step of the evaluation point
    "normalized_return": "float64",
    "missed_variance": "float64",  # of the latest check of students up to the step, if any
    "in_headline": "bool",  # whether the point is averaged in the headline score of its seed
}


def load_results(folder: Path | str = "results", *, strict: bool = False) -> pd.DataFrame:
    """Load the results of one suite or of a folder of suites as a DataFrame.

    There is one row per trial, seed, arm and evaluation step. A trial without scores has one row
    with its status (``failed``, ``timeout`` or ``missing``). The headline score of each seed is::

        rows = frame[frame.in_headline]
        rows.groupby(["dataset", "objective", "protocol", "arm", "seed"]).normalized_return.mean()

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
    no_score = (None, None, None, math.nan, math.nan, False)
    for entry in results.entries:
        record = entry.record
        trial = _trial(results.suite, entry.spec, entry.file, record.status, record.error)
        if not entry.curves:
            yield (*trial, *no_score)
        for arm, seeds in sorted(entry.curves.items()):
            for seed, curve in sorted(seeds.items()):
                counted = {step for step, _ in distilled_points(curve)[-HEADLINE_POINTS:]}
                checks = record.student_checks.get(str(seed), [])
                for step, score in curve:
                    missed = [missed_variance(check) for check in checks if check.step <= step]
                    latest = missed[-1] if missed else math.nan
                    yield (*trial, arm, seed, step, score, latest, step in counted)
    for spec in results.missing.values():
        yield (*_trial(results.suite, spec, None, "missing", None), *no_score)


def _trial(
    suite: str, spec: TrialSpec, file: str | None, status: str, error: str | None
) -> tuple[Any, ...]:
    return (
        suite,
        spec.key,
        file,
        status,
        error,
        DatasetId(spec.dataset).source,
        spec.dataset,
        spec.objective,
        json.dumps(spec.objective_params, sort_keys=True),
        spec.protocol,
        json.dumps(spec.protocol_params, sort_keys=True),
        spec.preset,
        spec.settings.steps,
        spec.settings.pairs,
    )
