"""Leaderboards for programs: ``<suite>.csv`` and one ``results.json``.

``<suite>.csv`` has one line per row of the leaderboard, dataset and expected seed:

======================  ==========================================================================
``source``              source of the dataset: ``embedded``, ``d4rl`` ...
``protocol``, ``arm``   protocol, and what it varies: architecture, optimizer, number of pairs
``objective``           name of the objective or baseline
``label``               name of the row in the tables, with the parameters that distinguish it
``method``              selection, distillation or whole data
``budget``              number of pairs, preset and outer steps
``dataset``, ``seed``   dataset identifier and seed
``normalized_return``   headline score, 0 to 100; empty where the seed has no score
``best``                best evaluation point of the seed
``status``              ``ok``, ``failed``, ``timeout`` or ``missing``
======================  ==========================================================================

``results.json`` follows :class:`Leaderboards`. Numbers are rounded to four digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pydantic import BaseModel

from obdbench.errors import InvalidDataError, unknown_name
from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.grid import Grid, Row
from obdbench.reporting.grids.suite_results import best_point, is_suite_folder, read_suite_results
from obdbench.reporting.rendering.latex import render_document_part
from obdbench.reporting.tables.captions import format_budget
from obdbench.reporting.tables.suite_report import PROTOCOL_BLOCKS, SuiteReport, build_report
from obdbench.reporting.tables.table import DIGITS, round_number
from obdbench.results.headline import headline_score

TABLE_FORMATS = ("csv", "json", "latex")
CSV_COLUMNS = (
    "source",
    "protocol",
    "arm",
    "objective",
    "label",
    "method",
    "budget",
    "dataset",
    "seed",
    "normalized_return",
    "best",
    "status",
)


class ScoreSummary(BaseModel):
    """One row on one dataset."""

    scores: dict[int, float]  # headline score by seed
    mean: float | None  # over the seeds that have a score; None without scores
    std: float | None  # sample standard deviation; None with fewer than two scores
    n_expected: int  # number of expected seeds
    complete: bool  # whether every expected seed has a score


class RowSummary(BaseModel):
    """One row of a table."""

    label: str
    objective: str
    arm: str
    method: str  # selection, distillation or whole data
    budget: str
    baseline: bool  # whether it uses the whole data; such rows have no rank
    rank: int | None  # among complete distilled and selected rows
    average: float | None  # mean over datasets; None where the row is incomplete
    iqm: float | None  # interquartile mean over seeds and datasets; None where incomplete
    iqm_low: float | None  # bounds of its 95% bootstrap interval
    iqm_high: float | None
    n_scores: int
    n_expected: int
    datasets: dict[str, ScoreSummary]


class GridSummary(BaseModel):
    """All rows of one protocol on the datasets of one source."""

    source: str
    protocol: str
    rows: list[RowSummary]


class Leaderboards(BaseModel):
    """Content of ``results.json``."""

    schema_version: int = 1
    suites: dict[str, list[GridSummary]]


def export_results(folder: Path | str, format_name: str) -> str:
    """The tables of the suite whose results a folder contains, as CSV, JSON or LaTeX.

    LaTeX contains the tables of scores and of the probability of improvement. It needs the
    package ``booktabs``.
    """
    folder = Path(folder)
    if format_name not in TABLE_FORMATS:
        raise unknown_name("table format", format_name, TABLE_FORMATS)
    if not folder.is_dir() or not is_suite_folder(folder):
        raise InvalidDataError(
            f"{folder} contains no results of a suite.",
            "Give the folder RESULTS/SUITE, or a synset with its suffix .safetensors.",
        )
    report = build_report(read_suite_results(folder))
    if format_name == "csv":
        return scores_csv(report)
    if format_name == "json":
        return results_json([report])
    blocks = ("main", "comparisons", *PROTOCOL_BLOCKS)
    return render_document_part([table for block in blocks for table in report.tables[block]])


def scores_csv(report: SuiteReport) -> str:
    """The headline scores of a suite as CSV."""
    lines = [line for grid in report.grids for row in grid.rows for line in _csv_lines(grid, row)]
    frame = pd.DataFrame(lines, columns=list(CSV_COLUMNS))
    return str(frame.to_csv(index=False, float_format=f"%.{DIGITS}f", lineterminator="\n"))


def _csv_lines(grid: Grid, row: Row) -> Iterable[tuple[object, ...]]:
    names = (grid.source, grid.protocol, row.arm, row.objective, row.label)
    facts = (*names, row.method, format_budget(row))
    for dataset in grid.datasets:
        cell = row.cells.get(dataset)
        if cell is None:
            continue
        for seed in sorted(cell.expected_seeds):
            if curve := cell.curves.get(seed):
                yield (*facts, dataset, seed, headline_score(curve), best_point(curve)[1], "ok")
            else:
                yield (*facts, dataset, seed, None, None, cell.failures.get(seed, "missing"))


def results_json(reports: Iterable[SuiteReport]) -> str:
    """The leaderboards of all suites as JSON."""
    suites = {report.suite: list(map(_summarize_grid, report.grids)) for report in reports}
    return json.dumps(Leaderboards(suites=suites).model_dump(mode="json"), indent=1) + "\n"


def _summarize_grid(grid: Grid) -> GridSummary:
    rows = [_summarize_row(grid, row) for row in grid.sorted_rows()]
    return GridSummary(source=grid.source, protocol=grid.protocol, rows=rows)


def _summarize_row(grid: Grid, row: Row) -> RowSummary:
    datasets = {}
    for dataset in grid.datasets:
        if (cell := row.cells.get(dataset)) is not None:
            mean, std = stats.mean_std(cell.scores) if cell.scores else (None, None)
            scores = zip(sorted(cell.curves), cell.scores, strict=True)
            datasets[dataset] = ScoreSummary(
                scores={seed: round(score, DIGITS) for seed, score in scores},
                mean=round_number(mean),
                std=round_number(std),
                n_expected=len(cell.expected_seeds),
                complete=cell.complete,
            )
    iqm = row.iqm
    return RowSummary(
        label=row.label,
        objective=row.objective,
        arm=row.arm,
        method=row.method,
        budget=format_budget(row),
        baseline=row.is_baseline,
        rank=grid.rank(row),
        average=round_number(row.average),
        iqm=round_number(iqm.estimate) if iqm else None,
        iqm_low=round_number(iqm.low) if iqm else None,
        iqm_high=round_number(iqm.high) if iqm else None,
        n_scores=row.n_scores,
        n_expected=row.n_expected,
        datasets=datasets,
    )
