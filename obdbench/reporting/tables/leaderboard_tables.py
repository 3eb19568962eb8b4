"""The leaderboard's tables, computed from grids and suite results alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from obdbench.errors import shorten
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.control_gain import gain_over_controls, paired_gain
from obdbench.reporting.grids.grid import SINGLE_ARMS, Grid, Row
from obdbench.reporting.grids.suite_results import SuiteResults
from obdbench.reporting.tables.captions import (
    GAIN_OVER_SELECTION,
    NOTES,
    TITLES,
    control_notes,
    dataset_columns,
    format_budget,
    format_ranges,
    join_distinct,
    score_notes,
    scores_title,
    table_title,
)
from obdbench.reporting.tables.cells import (
    average_cell,
    format_mean_std,
    gain_cell,
    interval_cell,
    score_cell,
)
from obdbench.reporting.tables.table import MISSING, Cell, Table, format_number

ARM_COLUMNS = {
    "cross-architecture": "architecture",
    "cross-optimizer": "optimizer",
    "size": "pairs",
}
GAIN_OVER_RANDOM = "gain over random (95% interval)"
REASON_LENGTH = 120


def scores_table(grid: Grid) -> Table:
    """Headline scores: objective by dataset, ranked unless the protocol has several arms.

    Without arms, the table has the gain of distilled rows over the best control.
    """
    has_arms = any(row.arm not in SINGLE_ARMS for row in grid.rows)
    rows = list(grid.rows) if has_arms else grid.sorted_rows()
    leaders = {} if has_arms else _leaders(grid)
    gains = [] if has_arms else [gain_over_controls(grid, row) for row in rows]

    def score(row: Row, dataset: str) -> Cell:
        is_leader = leaders.get(dataset) is row
        return score_cell(
            row.cells.get(dataset), is_leader, mark_decrease=row.method == "distillation"
        )

    headings = dict(zip(grid.datasets, dataset_columns(grid.datasets), strict=True))
    gain_cells = [gain_cell(gain, len(grid.expected_datasets)) for gain in gains]
    columns: list[tuple[str, list[Cell]]] = [
        ("objective", [Cell(row.label) for row in rows]),
        (ARM_COLUMNS.get(grid.protocol, "arm"), [Cell(row.arm) for row in rows])
        if has_arms
        else ("method", [Cell(row.method) for row in rows]),
        ("budget", [Cell(format_budget(row)) for row in rows]),
        *((headings[d], [score(row, d) for row in rows]) for d in grid.datasets),
        ("average", [average_cell(row) for row in rows]),
        *([] if has_arms else [(GAIN_OVER_SELECTION, gain_cells)]),
        ("IQM", [interval_cell(row.iqm) for row in rows]),
        *([] if has_arms else [("rank", [_rank_cell(grid.rank(row)) for row in rows])]),
        ("scores", [_count_cell(row) for row in rows]),
    ]
    return Table(
        title=scores_title(grid),
        columns=tuple(heading for heading, _ in columns),
        rows=tuple(zip(*(cells for _, cells in columns), strict=True)),
        notes=(*score_notes(grid), *(() if has_arms else control_notes(gains, rows))),
        n_text_columns=3,
    )


def _rank_cell(rank: int | None) -> Cell:
    return Cell(str(rank) if rank else MISSING, rank)


def _count_cell(row: Row) -> Cell:
    return Cell(f"{row.n_scores}/{row.n_expected}", row.n_scores / max(row.n_expected, 1))


def _leaders(grid: Grid) -> dict[str, Row]:
    """The ranked row with the highest mean on each dataset that two or more rows complete."""
    leaders = {}
    for dataset in grid.datasets:
        means = [
            (stats.mean_std(row.cells[dataset].scores)[0], row)
            for row in grid.rows
            if dataset in row.cells and row.cells[dataset].complete and not row.is_baseline
        ]
        if len(means) > 1:
            _, leaders[dataset] = max(means, key=lambda pair: pair[0])
    return leaders


def summary_table(grid: Grid) -> Table:
    """Average of each complete row, and its gains over random selection and over controls.

    The title names a protocol other than the default.
    """
    protocol = "" if grid.protocol == "default" else f", protocol {grid.protocol}"
    references = {row.arm: row for row in grid.rows if row.label == "random" and row.complete}
    rows = []
    for row in grid.rows_by_average():
        average, gain = None, None
        if row.complete:
            average = stats.mean_interval(row.scores_by_dataset)
            reference = references.get(row.arm)
            if reference is not None and row is not reference and not row.is_baseline:
                gain = paired_gain(row, reference, row.expected_datasets)
        over_controls = gain_over_controls(grid, row) if row.complete else None
        rows.append(
            (
                Cell(row.label if row.arm in SINGLE_ARMS else f"{row.label}, {row.arm}"),
                interval_cell(average),
                interval_cell(gain, sign=True),
                gain_cell(over_controls, len(grid.expected_datasets)),
            )
        )
    return Table(
        title=table_title("summary", grid) + protocol,
        columns=(
            "row",
            "average (95% interval)",
            GAIN_OVER_RANDOM,
            f"{GAIN_OVER_SELECTION} (95% interval)",
        ),
        rows=tuple(rows),
    )


def best_points_table(grid: Grid) -> Table:
    """The best evaluation point of each seed, apart from the headline score."""

    def best_cell(row: Row, dataset: str) -> Cell:
        cell = row.cells.get(dataset)
        if cell is None or not cell.best_scores:
            return Cell(MISSING)
        return Cell(format_mean_std(cell.best_scores), stats.mean_std(cell.best_scores)[0])

    return Table(
        title=table_title("best", grid),
        columns=("objective", *dataset_columns(grid.datasets)),
        rows=tuple(
            (Cell(row.label), *(best_cell(row, dataset) for dataset in grid.datasets))
            for row in grid.sorted_rows()
            if not row.is_baseline
        ),
        notes=(NOTES["best"],),
    )


def improvement_table(grid: Grid) -> Table | None:
    """Probability of improvement over random, DBC and the best other row, for complete rows."""
    complete = [row for row in grid.sorted_rows() if row.complete and not row.is_baseline]
    if len(complete) < 2:
        return None
    by_label = {row.label: row for row in complete}
    by_average = sorted(complete, key=lambda row: -(row.average or 0.0))
    rows = []
    for row in complete:
        best_other = next(other for other in by_average if other is not row)
        cells = [
            Cell(MISSING)
            if other is None or other is row
            else interval_cell(
                stats.bootstrap_interval(
                    stats.probability_of_improvement, row.scores_by_dataset, other.scores_by_dataset
                ),
                digits=2,
            )
            for other in (by_label.get("random"), by_label.get("dbc"), best_other)
        ]
        rows.append((Cell(row.label), *cells, Cell(best_other.label)))
    return Table(
        title=table_title("comparisons", grid),
        columns=("objective", "over random", "over dbc", "over the best other", "best other"),
        rows=tuple(rows),
        notes=(NOTES["comparisons"],),
    )


def cost_table(grid: Grid) -> Table:
    """Median times of the trials of each row, per seed."""
    return Table(
        title=table_title("cost", grid),
        columns=(
            "objective",
            "budget",
            "seeds per trial",
            "seconds to prepare",
            "minutes to distill, per seed",
            "minutes to evaluate, per seed",
            "device",
            "threads",
            "trials",
        ),
        rows=tuple(map(_cost_cells, grid.sorted_rows())),
        notes=(NOTES["cost"],),
        n_text_columns=2,
    )


def _cost_cells(row: Row) -> tuple[Cell, ...]:
    records = [entry.record for entry in row.entries if entry.record.status == "ok"]
    distilled = [record for record in records if record.timing.distill > 0]
    machines = [record.environment for record in records if record.environment is not None]
    return (
        Cell(row.label),
        Cell(format_budget(row)),
        Cell(join_distinct(len(record.spec.seeds) for record in records)),
        _median_cell([record.timing.prepare for record in distilled]),
        _median_cell([r.timing.distill / 60 / len(r.spec.seeds) for r in distilled]),
        _median_cell([r.timing.evaluate / 60 / len(r.spec.seeds) for r in records]),
        Cell(join_distinct(machine.device for machine in machines)),
        Cell(join_distinct(machine.threads for machine in machines)),
        Cell(f"{len(records)}/{len(row.entries)}"),
    )


def _median_cell(values: Sequence[float]) -> Cell:
    median = statistics.median(values) if values else None
    return Cell(format_number(median), median)


def data_table(grid: Grid) -> Table:
    """The datasets and teachers behind the scores, with checksums of their content."""
    records = [entry.record for entry in grid.entries if entry.record.dataset is not None]
    facts = sorted(
        {
            (record.dataset.id, record.dataset.checksum, record.dataset.size or 0)
            + ((record.teacher.id, record.teacher.checksum) if record.teacher else ("", ""))
            for record in records
            if record.dataset is not None
        }
    )
    return Table(
        title=table_title("data", grid),
        columns=("dataset", "teacher", "transitions", "SHA-256", "SHA-256 of the teacher"),
        rows=tuple(
            (
                Cell(dataset),
                Cell(teacher or MISSING),
                Cell(f"{size:,}" if size else MISSING, size),
                Cell(checksum[:16]),
                Cell(teacher_checksum[:16] or MISSING),
            )
            for dataset, checksum, size, teacher, teacher_checksum in facts
        ),
        n_text_columns=2,
    )


def gaps_table(results: SuiteResults) -> Table | None:
    """Every expected trial without scores and every skipped file, with the reason."""
    rows = [
        (
            *_trial_cells(results, entry.record.key, entry.spec),
            Cell(entry.record.status, link=entry.file),
            Cell(shorten(entry.record.error or "unknown", REASON_LENGTH)),
        )
        for entry in results.entries
        if entry.record.status != "ok"
    ]
    rows += [
        (*_trial_cells(results, key, spec), Cell("missing"), Cell("no result file"))
        for key, spec in results.missing.items()
    ]
    rows += [
        (Cell(file.file), Cell(MISSING), Cell("skipped"), Cell(shorten(file.reason, REASON_LENGTH)))
        for file in results.skipped
    ]
    if not rows:
        return None
    return Table(
        title=TITLES["gaps"],
        columns=("trial or file", "dataset", "status", "reason"),
        rows=tuple(sorted(rows, key=lambda row: tuple(cell.text for cell in row))),
        n_text_columns=4,
    )


def files_table(results: SuiteResults) -> Table:
    """Every result file, by dataset and trial."""
    rows = [
        (
            *_trial_cells(results, entry.record.key, entry.spec),
            Cell(format_ranges(sorted(entry.spec.seeds))),
            Cell(entry.record.status),
            Cell(entry.file, link=entry.file),
        )
        for entry in results.entries
    ]
    return Table(
        title=TITLES["files"],
        columns=("trial", "dataset", "seeds", "status", "file"),
        rows=tuple(sorted(rows, key=lambda row: (row[1].text, row[0].text, row[-1].text))),
        n_text_columns=5,
    )


def _trial_cells(results: SuiteResults, key: str, spec: TrialSpec) -> tuple[Cell, Cell]:
    return Cell(results.labels[key].removeprefix(f"{spec.dataset} ")), Cell(spec.dataset)
