"""Text around tables: titles, column names, notes, warnings, and how results were measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import count_noun
from obdbench.reporting.grids.control_gain import ControlGain
from obdbench.reporting.grids.grid import METHODS, Grid, Row, natural_sort_key
from obdbench.reporting.tables.table import MISSING
from obdbench.results.check_scores import find_reference_returns
from obdbench.results.headline import HEADLINE_POINTS, distilled_points
from obdbench.results.record import Result
from obdbench.results.student_checks import LARGEST_MISSED_VARIANCE

SCORES_TITLES = {  # by protocol
    "default": "Main table",
    "cross-architecture": "Cross-architecture",
    "cross-optimizer": "Cross-optimizer",
    "ensemble": "Ensemble",
    "size": "Size of the synset",
}
TITLES = {  # of the other tables, by name
    "summary": "Summary",
    "best": "Best evaluation point",
    "comparisons": "Probability of improvement",
    "papers": "Measured beside published",
    "cost": "Cost",
    "data": "Data and teachers",
    "gaps": "Failed, missing and skipped trials",
    "files": "Result files",
}
PAGE_TITLES = {
    "sources": "Further data sources",
    "protocols": "Other protocols",
    "papers": "Comparison with published results",
    "details": "Best points, cost, data and result files",
}
GAIN_OVER_SELECTION = "gain over best selection"
ROWS_OF_METHODS = {
    "distillation": "distilled",
    "selection": "selected",
    "whole data": "whole-data",
}
NOTES = {
    "best": (
        "Mean ± standard deviation over seeds of the best evaluation point of each seed. The score "
        "itself selects the point, which overestimates rows with several points; no rank depends "
        "on it."
    ),
    "comparisons": (
        "Probability that a seed of the row has a higher score than a seed of the other row on the "
        "same dataset, averaged over datasets, with its 95% interval from the stratified "
        "bootstrap. 0.5 means no difference. Incomplete rows are not compared."
    ),
    "cost": (
        "Medians over the trials of each row. The seeds of a trial run in one program; times "
        "except the preparation are divided by their number. Trials that reuse synsets count for "
        "evaluation only."
    ),
    "comparison": (
        "Mean ± standard deviation over common seeds of the normalized return. The score of "
        "each seed is the mean of its last five evaluation points, or of as many as it has, "
        "without step 0 where there are others. Differences are paired by seed."
    ),
}
WITHIN_INTERVAL = "≈"
RECIPE_NOTE = (
    "The papers use D4RL's files; the embedded datasets were collected by this project with D4RL's "
    "recipe."
)
ENSEMBLE_MEMBERS = 10  # default of the ensemble protocol, whose module would import torch
NO_MANIFEST_NOTE = "There is no manifest, so trials without a result are unknown."
HIGH_MISSED_VARIANCE = "‡"
BELOW_START = "↓"
DIFFERENT_SEEDS_NOTE = (
    "The rows with a rank have different seeds, which may be a part of the difference between two "
    "of them; obdbench compare takes only the seeds that they have in common."
)
BASELINE_NOTE = (
    "behavior is the mean return of the recorded episodes. bc-whole clones all transitions of the "
    "dataset, pbc-whole the teacher's actions on all of its states. Rows of offline RL, such as "
    "td3-bc-whole, are scores of the teachers, which may have been trained on larger collections "
    "(baselines/). These rows are not distilled and have no rank."
)


def measurement_facts(grids: Sequence[Grid]) -> list[str]:
    """How the results were measured: one line per protocol and source, versions and date."""
    entries = [entry for grid in grids for entry in grid.entries]
    environments = [e.record.environment for e in entries if e.record.environment]
    versions = sorted({f"{n} {v}" for e in environments for n, v in e.versions.items()})
    newest = max((entry.record.timing.started for entry in entries), default="")
    return [
        *(_grid_facts(grid) for grid in grids),
        f"versions: {', '.join(versions) or MISSING}",
        f"newest result: {newest[:10] or MISSING}",
    ]


def _grid_facts(grid: Grid) -> str:
    environments = [e.record.environment for e in grid.entries if e.record.environment]
    distilled = [row for row in grid.rows if row.method == "distillation"]
    budgets = dict.fromkeys(map(format_budget, distilled or grid.ranked_rows))
    seeds = sorted({seed for row in grid.ranked_rows for seed in row.seeds})
    facts = [
        f"protocol {grid.protocol} on {grid.source} ({count_noun(len(grid.datasets), 'dataset')}): "
        + (" or ".join(_evaluations(grid)) or "not evaluated"),
        f"budget {' or '.join(b for b in budgets if b != MISSING) or MISSING}",
        f"seeds {format_ranges(seeds)}",
        f"environment {join_distinct(e.env_id for e in environments)}",
        f"device {join_distinct(e.device for e in environments)}",
    ]
    return "; ".join(facts)


def _evaluations(grid: Grid) -> list[str]:
    """What scores one evaluation point, such as ``10 policies × 10 episodes per point``."""
    shapes = {e.episodes for row in grid.ranked_rows for e in row.entries if e.episodes}
    texts = []
    for shape in sorted(shapes):
        policies = count_noun(len(shape), "policy", "policies")
        if grid.protocol == "ensemble":
            params = (e.spec.protocol_params for row in grid.rows for e in row.entries)
            sizes = sorted({p.get("policies", ENSEMBLE_MEMBERS) for p in params})
            policies = f"an ensemble of {'/'.join(map(str, sizes))}"
        episodes = "/".join(map(str, sorted(set(shape))))
        noun = "episode" if episodes == "1" else "episodes"
        texts.append(f"{policies} × {episodes} {noun} per evaluation point")
    return list(dict.fromkeys(texts))


def score_notes(grid: Grid) -> tuple[str, ...]:
    """How to read a table of scores."""
    lines = [
        "Return, normalized as in D4RL (0 = random, 100 = expert): mean ± standard deviation over "
        f"seeds. The score of each seed is {_headline_text(grid)}. The average is the mean over "
        "datasets and determines the rank; incomplete rows (scores present/expected) have neither. "
        "IQM is the interquartile mean over all seeds and datasets with its 95% bootstrap "
        "interval, which is too narrow where there are few seeds."
    ]
    if len({row.seeds for row in grid.rows if grid.rank(row) is not None}) > 1:
        lines.append(DIFFERENT_SEEDS_NOTE)
    if any(row.is_baseline for row in grid.rows):
        lines.append(BASELINE_NOTE)
    lines += _distillation_notes(grid)
    rows = [row for row in grid.rows if row.method == "distillation"]
    if any((c.change or 0.0) < 0.0 for row in rows for c in row.cells.values()):
        lines.append(
            f"{BELOW_START} marks a distilled row that has a lower score than its initial pairs at "
            "step 0 (mean over seeds)."
        )
    if names := environments_without_references(grid):
        lines.append(
            f"Scores in {', '.join(names)} are raw returns: no reference returns are known."
        )
    if names := datasets_with_several_checksums(grid):
        lines.append(
            f"The columns {', '.join(names)} combine results from different files of one name; "
            "the table of data and teachers lists their checksums."
        )
    if teachers := teachers_with_several_checksums(grid):
        lines.append(
            "Results of a teacher that was trained again stand beside those of the old one. "
            f"Checksums, the one of the newest result first: {'; '.join(teachers)}."
        )
    checked = [entry.record for entry in grid.entries if entry.record.student_checks]
    if checked:
        lines.append(
            f"{high_missed_variance_note(checked)} Only trials with guard_interval are checked."
        )
    if not grid.has_manifest:
        lines.append(NO_MANIFEST_NOTE)
    return tuple(lines)


def high_missed_variance_note(checked: Iterable[Result]) -> str:
    """The meaning of the mark of students that miss much of the variance of the target actions."""
    rises = " or ".join(f"{v:g}" for v in sorted({r.spec.settings.guard_max_rise for r in checked}))
    return (
        f"{HIGH_MISSED_VARIANCE} Students of at least one seed miss much of the variance of the "
        "target actions: at the last check, the share that they miss exceeds "
        f"{LARGEST_MISSED_VARIANCE:g}, or exceeds its minimum during the distillation by more than "
        f"{rises}."
    )


def summary_caption(grid: Grid) -> str:
    """What a summary of a grid averages: datasets, kind of scores, and seeds of the rows."""
    counts = {row.label: len(row.seeds) for row in grid.ranked_rows}
    most_common = statistics.mode(counts.values())
    others: dict[int, list[str]] = {}
    for label, count in counts.items():
        if count != most_common:
            others.setdefault(count, []).append(label)
    exceptions = "; ".join(f"{n} for {', '.join(labels)}" for n, labels in sorted(others.items()))
    datasets = count_noun(len(grid.expected_datasets), "dataset")
    methods = {row.method for row in grid.ranked_rows}
    rows = ""
    if methods != {row.method for row in grid.rows}:
        rows = f" per {' or '.join(ROWS_OF_METHODS[m] for m in METHODS if m in methods)} row"
    return (
        "Returns, normalized as in D4RL (0 = random, 100 = expert): mean over "
        f"{datasets} ({grid.source}) and {count_noun(most_common, 'seed')}{rows}"
        f"{f' ({exceptions})' if others else ''}."
    )


def control_notes(gains: Sequence[ControlGain | None], rows: Sequence[Row]) -> tuple[str, ...]:
    """How to read the gain over the best selection, and which selection it is."""
    controls: dict[str, dict[str, None]] = defaultdict(dict)
    objectives: dict[str, dict[str, None]] = defaultdict(dict)
    for gain in gains:
        if gain is not None:
            controls[gain.row.labels][gain.control.label] = None
            objectives[gain.row.labels][gain.row.objective] = None
    if not controls:
        is_missing = any(row.method == "distillation" for row in rows)
        note = "is empty: no selection has as many pairs and the same source of actions."
        return (f"The column '{GAIN_OVER_SELECTION}' {note}",) if is_missing else ()
    best = (
        f"{' or '.join(controls[labels])} for {', '.join(objectives[labels])} (actions of the "
        f"{labels})"
        for labels in sorted(controls)
    )
    return (
        f"The column '{GAIN_OVER_SELECTION}' contains the mean gain over the best selection with "
        "as many pairs and the same source of actions, data or teacher, with its 95% interval from "
        f"differences paired by dataset and seed. The best selection is {' and '.join(best)}.",
    )


def _distillation_notes(grid: Grid) -> list[str]:
    """How the rows distill: solver and source of states."""
    rows: dict[str, list[str]] = {}
    for row in grid.rows:
        if row.method == "distillation":
            rows.setdefault(_describe_distillation(row), []).append(row.label)
    if len(rows) == 1:
        return [f"Distillation: {text}." for text in rows]
    return [f"Distillation of {', '.join(dict.fromkeys(v))}: {text}." for text, v in rows.items()]


def _describe_distillation(row: Row) -> str:
    settings = row.spec.settings
    if settings.solver == "full":
        solver = "exact meta-gradients"
    elif settings.window is not None:
        solver = f"{settings.solver} meta-gradients of {settings.window} inner steps"
    elif settings.solver == "corrected":
        solver = f"infinite-width gradients, corrected every {settings.exact_interval} steps"
    else:
        solver = f"the solver {settings.solver}"
    if settings.kernel_share == 1:
        solver = "every step is an infinite-width step"
    elif settings.kernel_share:
        share = f"up to {100 * settings.kernel_share:g}% of the steps"
        solver = f"{share} are infinite-width steps, the others use {solver}"
    else:
        solver = f"every step uses {solver}"
    states = "states of the data"
    if settings.smoothing and settings.state_source != "data":
        states += f" with noise of {settings.smoothing:g} standard deviations"
    if settings.state_source not in ("data", "smoothed"):
        states += f" and states of the source '{settings.state_source}'"
    return f"{solver}, on {states}"


def environments_without_references(grid: Grid) -> list[str]:
    """The environments whose scores are raw returns."""
    environments = [entry.record.environment for entry in grid.entries]
    return sorted(
        {e.env_id for e in environments if e is not None and find_reference_returns(e) is None}
    )


def datasets_with_several_checksums(grid: Grid) -> list[str]:
    """Short names of the datasets whose results come from files with different checksums."""
    records = [entry.record.dataset for entry in grid.entries if entry.record.dataset]
    pairs = {(record.id, record.checksum) for record in records}
    ids = [dataset for dataset, _ in pairs]
    return [DatasetId(d).short_name for d in grid.datasets if ids.count(d) > 1]


def teachers_with_several_checksums(grid: Grid) -> list[str]:
    """The teachers of one name and dataset with different weights, and the rows of each."""
    entries = [(entry, row.label) for row in grid.rows for entry in row.entries]
    entries.sort(key=lambda pair: pair[0].record.timing.started, reverse=True)
    rows: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for spec, label in ((entry.spec, label) for entry, label in entries):
        if spec.teacher is not None and spec.teacher_checksum is not None:
            checksums = rows.setdefault((spec.dataset, spec.teacher), {})
            checksums.setdefault(spec.teacher_checksum[:8], {})[label] = None
    return [
        f"{teacher} of {DatasetId(dataset).short_name} is "
        + " and ".join(f"{checksum} in {', '.join(names)}" for checksum, names in checksums.items())
        for (dataset, teacher), checksums in sorted(rows.items())
        if len(checksums) > 1
    ]


def _headline_text(grid: Grid) -> str:
    """The points that are averaged, as far as all rows of a method have as many."""
    n_points: dict[str, set[int]] = defaultdict(set)  # by method, of each seed
    for row in grid.rows:
        for curve in (curve for cell in row.cells.values() for curve in cell.curves.values()):
            n_points[row.method].add(min(len(distilled_points(curve)), HEADLINE_POINTS))
    most = max((n for numbers in n_points.values() for n in numbers), default=0)
    if most < 2:
        return "that of its last evaluation point"
    text = f"the mean of its last {most} evaluation points"
    single = [method for method in METHODS if n_points[method] == {1}]
    if any(n < most for method in METHODS if method not in single for n in n_points[method]):
        text += ", or of all if there are fewer"
    if single:
        text += f"; {' and '.join(ROWS_OF_METHODS[method] for method in single)} rows have one"
    return text


def table_title(name: str, grid: Grid, suffix: str = "") -> str:
    """The title of a table with the source of the data."""
    return f"{TITLES[name]}{suffix}: {grid.source}"


def scores_title(grid: Grid) -> str:
    """The title of the table of scores under a protocol."""
    return f"{SCORES_TITLES.get(grid.protocol, f'Protocol {grid.protocol}')}: {grid.source}"


def paper_notes(grid: Grid, source: str, setting: str, note: str) -> tuple[str, ...]:
    """How to read measured scores beside those of a paper, and where these are from."""
    return (
        "Measured (published, difference). Differences are between means over seeds, for complete "
        "cells only.",
        f"{WITHIN_INTERVAL} The published value lies within the 95% interval of the measured mean "
        "(Student, over seeds). With few seeds the interval is wide, so this is not evidence of "
        "agreement. The uncertainty of the published value is not included.",
        f"Published: {source}; {setting}.",
        *([note] if note else []),
        *([RECIPE_NOTE] if grid.source != "d4rl" else []),
    )


def dataset_columns(datasets: Iterable[str]) -> list[str]:
    """Column names of datasets, such as ``hopper medium-replay``."""
    return [DatasetId(dataset).short_name.replace("-", " ", 1) for dataset in datasets]


def format_budget(row: Row) -> str:
    """Number of pairs, and for distilled rows the preset and number of outer steps."""
    if row.is_baseline:
        return "whole data"
    pairs = [] if row.spec.protocol == "size" else [count_noun(row.spec.settings.pairs, "pair")]
    if row.method == "distillation":
        pairs += [row.preset, f"{format_ranges(row.steps)} steps"]
    return ", ".join(pairs) or MISSING


def join_distinct(values: Iterable[object]) -> str:
    """The distinct values in natural order."""
    return ", ".join(sorted(set(map(str, values)), key=natural_sort_key)) or MISSING


def format_ranges(numbers: Sequence[int]) -> str:
    """``0, 1, 2, 5`` as ``0–2,5``."""
    ranges: list[list[int]] = []
    for value in numbers:
        if ranges and value == ranges[-1][-1] + 1:
            ranges[-1].append(value)
        else:
            ranges.append([value])
    texts = [f"{r[0]}–{r[-1]}" if len(r) > 1 else str(r[0]) for r in ranges]
    return ",".join(texts) or MISSING
