"""The leaderboard's tables, as a pure function of a collection of results."""

from __future__ import annotations

from obdbench.experiments.spec import label_trials
from obdbench.reporting import statistics as stats
from obdbench.reporting.captions import (
    dataset_columns,
    format_budget,
    measurement_facts,
    score_notes,
    stand_in_warning,
    with_source,
)
from obdbench.reporting.cells import format_mean_std, interval_cell, median_cell, score_cell
from obdbench.reporting.commands import format_commands
from obdbench.reporting.grid import SINGLE_ARMS, Grid, Row
from obdbench.reporting.suite_results import ResultEntry, SuiteResults
from obdbench.reporting.table import MISSING, Cell, Table, format_number

TITLES = {
    "default": "Main table",
    "cross-architecture": "Cross-architecture",
    "cross-optimizer": "Cross-optimizer",
    "ensemble": "Ensemble",
    "size": "Size of the synset",
}
ARMS = {"cross-architecture": "architecture", "cross-optimizer": "optimizer", "size": "pairs"}


def score_tables(grid: Grid, suite: str) -> list[Table]:
    """The table of a protocol; for the default one also the best points and the comparisons."""
    if grid.protocol == "convergence":
        return []
    if grid.protocol != "default":
        return [scores(grid, suite)]
    return [scores(grid, suite), best_points(grid, suite), *comparisons(grid, suite)]


def scores(grid: Grid, suite: str) -> Table:
    """Headline scores: objective by dataset, ranked unless the protocol has several arms."""
    armed = any(row.arm not in SINGLE_ARMS for row in grid.rows)
    leaders = {} if armed else _leaders(grid)
    rows = []
    for row in grid.rows if armed else grid.sorted_rows():
        rank = grid.rank(row)
        rows.append(
            (
                Cell(row.label),
                *([Cell(row.arm)] if armed else []),
                Cell(format_budget(row)),
                *(score_cell(row.cells.get(d), leaders.get(d) is row) for d in grid.datasets),
                Cell(format_number(row.average), row.average),
                interval_cell(row.iqm),
                *([] if armed else [Cell(str(rank) if rank else MISSING, rank)]),
                Cell(f"{row.n_scores}/{row.n_expected}", row.n_scores / max(row.n_expected, 1)),
            )
        )
    return Table(
        name=grid.protocol,
        title=with_source(TITLES.get(grid.protocol, f"Protocol {grid.protocol}"), grid),
        source=grid.source,
        columns=(
            "objective",
            *([ARMS.get(grid.protocol, "arm")] if armed else []),
            "budget",
            *dataset_columns(grid),
            "average",
            "IQM\n[95% interval]",
            *([] if armed else ["rank"]),
            "n/N",
        ),
        rows=tuple(rows),
        head=measurement_facts(grid),
        notes=score_notes(grid),
        caution=stand_in_warning(grid),
        command=format_commands(grid),
        texts=3 if armed else 2,
    )


def summary(grid: Grid) -> Table:
    """One line per complete row: average, its interval, and the gain over random selection."""
    reference = next((row for row in grid.rows if row.objective == "random" and row.complete), None)
    rows = []
    for row in grid.sorted_rows():
        average = (
            stats.bootstrap_interval(stats.mean_over_datasets, row.scores_by_dataset)
            if row.complete
            else None
        )
        gain = None
        if average is not None and reference is not None and not row.is_baseline:
            gain = _gain(row, reference)
        rows.append((Cell(row.label), interval_cell(average), interval_cell(gain)))
    return Table(
        name="summary",
        title=with_source("Summary", grid),
        source=grid.source,
        columns=("method", "average (95% interval)", "gain over random (95% interval)"),
        rows=tuple(rows),
    )


def _gain(row: Row, reference: Row) -> stats.Interval | None:
    """The mean difference to another row over the seeds that both have on every dataset."""
    if row is reference:
        return None
    differences = []
    for dataset in row.expected_datasets:
        cell, other = row.cells[dataset], reference.cells[dataset]
        seeds = sorted(cell.curves.keys() & other.curves.keys())
        pairs = zip(cell.scores_of(seeds), other.scores_of(seeds), strict=True)
        differences.append([score - base for score, base in pairs])
    return stats.paired_difference(differences) if all(differences) else None


def best_points(grid: Grid, suite: str) -> Table:
    """The best evaluation point of each seed, apart from the headline."""
    rows = [
        (
            Cell(row.label),
            *(
                Cell(
                    format_mean_std(cell.best_scores),
                    stats.mean_std(cell.best_scores)[0],
                    cell.files,
                )
                if (cell := row.cells.get(d)) is not None and cell.best_scores
                else Cell(MISSING)
                for d in grid.datasets
            ),
        )
        for row in grid.sorted_rows()
        if not row.is_baseline
    ]
    return Table(
        name="best",
        title=with_source("Best evaluation point", grid),
        source=grid.source,
        columns=("objective", *dataset_columns(grid)),
        rows=tuple(rows),
        head=measurement_facts(grid),
        notes=(
            "Mean over seeds of each seed's best point. It is chosen by the score itself and so "
            "flatters every row; nothing is ranked by it.",
        ),
        caution=stand_in_warning(grid),
        command=format_commands(grid),
    )


def comparisons(grid: Grid, suite: str) -> list[Table]:
    """Probability of improvement over random, DBC and the best other, for complete rows."""
    complete = [row for row in grid.sorted_rows() if row.complete and not row.is_baseline]
    if len(complete) < 2:
        return []

    plain = {row.objective: row for row in reversed(complete)}
    rows = []
    for row in complete:
        other = next(rival for rival in complete if rival is not row)
        line = [Cell(row.label)]
        for rival in (plain.get("random"), plain.get("dbc"), other):
            if rival is None or rival is row:
                line.append(Cell(MISSING))
                continue
            chance = stats.bootstrap_interval(
                stats.probability_of_improvement, row.scores_by_dataset, rival.scores_by_dataset
            )
            line.append(interval_cell(chance, digits=2))
        rows.append((*line, Cell(other.label)))
    return [
        Table(
            name="comparisons",
            title=with_source("Probability of improvement", grid),
            source=grid.source,
            columns=("objective", "over random", "over dbc", "over the best other", "that is"),
            rows=tuple(rows),
            head=measurement_facts(grid),
            notes=(
                "The chance that a seed of the row beats a seed of the other on the same dataset, "
                "averaged over datasets, with its 95% interval by stratified bootstrap. One half "
                "means no difference. Incomplete rows are not compared.",
            ),
            caution=stand_in_warning(grid),
            command=format_commands(grid),
        )
    ]


def cost(grid: Grid, suite: str) -> Table:
    """What each row took: medians over its trials, of times divided by a trial's seeds."""
    rows = []
    for row in grid.sorted_rows():
        done = [entry for entry in row.entries if entry.record.status == "ok"]
        distilled = [entry for entry in done if entry.record.timing.distill > 0]
        environments = [e.record.environment for e in done if e.record.environment]
        rows.append(
            (
                Cell(row.label),
                Cell(format_budget(row)),
                Cell(", ".join(map(str, sorted({len(e.spec.seeds) for e in done}))) or MISSING),
                median_cell((e.record.timing.step / len(e.spec.seeds) for e in distilled), 3),
                median_cell((e.record.timing.prepare for e in distilled), 1),
                median_cell((_minutes(e, e.record.timing.distill) for e in distilled), 1),
                median_cell((_minutes(e, e.record.timing.evaluate) for e in done), 1),
                Cell(", ".join(sorted({e.device for e in environments})) or MISSING),
                Cell(", ".join(map(str, sorted({e.threads for e in environments}))) or MISSING),
                Cell(f"{len(done)}/{len(row.entries)}", None, tuple(e.file for e in done)),
            )
        )
    return Table(
        name="cost",
        title=with_source("Cost", grid),
        source=grid.source,
        columns=(
            "objective",
            "budget",
            "seeds\na trial",
            "s a step\nand seed",
            "prepare, s",
            "distil,\nmin a seed",
            "evaluate,\nmin a seed",
            "device",
            "threads",
            "trials",
        ),
        rows=tuple(rows),
        head=measurement_facts(grid),
        notes=(
            "Medians over the row's trials, times but for preparing divided by a trial's seeds, "
            "which run in one program. Where a preset takes most steps at infinite width, so does "
            "the median step; exact ones take longer. Trials that reused synsets count for "
            "evaluation alone.",
        ),
        caution=stand_in_warning(grid),
        command=format_commands(grid),
        texts=2,
    )


def _minutes(entry: ResultEntry, seconds: float) -> float:
    return seconds / 60 / len(entry.spec.seeds)


def provenance(grid: Grid, suite: str) -> Table:
    """Which data and teachers the numbers came from, by content."""
    facts = sorted(
        {
            (record.dataset.id, record.dataset.checksum, record.dataset.size or 0)
            + ((record.teacher.id, record.teacher.checksum) if record.teacher else ("", ""))
            for record in (entry.record for entry in grid.entries)
            if record.dataset is not None
        }
    )
    rows = [
        (
            Cell(dataset),
            Cell(teacher or MISSING),
            Cell(f"{size:,}" if size else MISSING, size),
            Cell(checksum[:16]),
            Cell(teacher_checksum[:16] or MISSING),
        )
        for dataset, checksum, size, teacher, teacher_checksum in facts
    ]
    return Table(
        name="provenance",
        title=with_source("Data and teachers", grid),
        source=grid.source,
        columns=("dataset", "teacher", "transitions", "SHA-256", "SHA-256\nof the teacher"),
        rows=tuple(rows),
        caution=stand_in_warning(grid),
        texts=2,
    )


def gaps(collection: SuiteResults) -> list[Table]:
    """Everything expected that has no score, with its reason."""
    specs = dict(collection.expected) | {e.record.key: e.spec for e in collection.entries}
    told = dict(zip(specs, label_trials(list(specs.values())), strict=True))
    failed = [
        (_trial_cells(entry.spec.dataset, told[entry.record.key]), entry)
        for entry in collection.entries
        if entry.record.status != "ok"
    ]
    rows = [
        (*cells, Cell(e.record.status, None, (e.file,)), Cell(_short(e.record.error or "unknown")))
        for cells, e in failed
    ]
    rows += [
        (*_trial_cells(spec.dataset, told[spec.key]), Cell("missing"), Cell("no result file"))
        for spec in collection.missing
    ]
    rows += [
        (Cell(problem.file), Cell(MISSING), Cell("skipped"), Cell(_short(problem.reason)))
        for problem in collection.skipped
    ]
    rows.sort(key=lambda row: tuple(cell.text for cell in row))
    if not rows:
        return []
    return [
        Table(
            name="gaps",
            title="What is missing, and why",
            source="",
            columns=("trial or file", "dataset", "status", "reason"),
            rows=tuple(rows),
            texts=4,
        )
    ]


def _trial_cells(dataset: str, label: str) -> tuple[Cell, Cell]:
    return Cell(label.removeprefix(f"{dataset} ")), Cell(dataset)


def _short(reason: str, limit: int = 240) -> str:
    flat = " ".join(reason.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def _leaders(grid: Grid) -> dict[str, Row]:
    leaders = {}
    for dataset in grid.datasets:
        runners = [
            row
            for row in grid.rows
            if not row.is_baseline and dataset in row.cells and row.cells[dataset].complete
        ]
        if len(runners) > 1:
            leaders[dataset] = max(
                runners, key=lambda row: stats.mean_std(row.cells[dataset].scores)[0]
            )
    return leaders
