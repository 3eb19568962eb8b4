"""Compare objectives on the seeds they have in common: a verdict in words, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError, InvalidSettingError, count_noun
from obdbench.experiments.spec import format_params
from obdbench.experiments.suite import changed_params, parse_row, split_row_settings
from obdbench.registry import objectives as registry
from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.grid import BASELINES, SINGLE_ARMS, Grid, Row, natural_sort_key
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import (
    SuiteResults,
    find_suite_folders,
    read_suite_results,
    suite_results_of,
)
from obdbench.reporting.rendering.latex import render_tabular
from obdbench.reporting.rendering.markdown import render_table
from obdbench.reporting.tables.captions import NOTES, format_ranges
from obdbench.reporting.tables.cells import format_mean_std, interval_cell
from obdbench.reporting.tables.table import Cell, Table, format_number
from obdbench.results.record import Result

REPLICATES = 10_000
EQUAL_WITHIN = 1e-9  # points; allows for rounding of sums
Scores = tuple[tuple[float, ...], ...]  # by dataset and seed


@dataclass(frozen=True)
class Comparison:
    """The objective ``first`` against ``second`` under one protocol, on their common seeds."""

    first: str
    second: str
    protocol: str
    arm: str
    source: str
    seeds: dict[str, tuple[int, ...]]  # by dataset
    first_scores: Scores
    second_scores: Scores

    @cached_property
    def difference(self) -> stats.Interval:
        """Mean of the differences per seed, with the Student interval of paired samples."""
        differences = stats.differences_per_seed(self.first_scores, self.second_scores)
        return stats.mean_interval(differences)

    @cached_property
    def improvement(self) -> stats.Interval:
        """Probability of improvement of the first over the second."""
        return stats.bootstrap_interval(
            stats.probability_of_improvement,
            self.first_scores,
            self.second_scores,
            replicates=REPLICATES,
        )

    @property
    def significant_sign(self) -> int:
        """1 where the first is better, -1 where it is worse, 0 where the interval contains zero."""
        interval = self.difference
        if interval.low is None or interval.high is None:
            return 0
        return int(interval.low > 0.0) - int(interval.high < 0.0)

    @property
    def verdict(self) -> str:
        """Two or three sentences that state the result."""
        interval = self.difference
        gap = f"{format_number(abs(interval.estimate))} points"
        sample = f"{count_noun(len(self.seeds), 'dataset')}, {self._seed_text()}"
        if interval.low is None or interval.high is None:
            relation = f"is {gap} {'above' if interval.estimate > 0 else 'below'}"
            if abs(interval.estimate) < EQUAL_WITHIN:
                relation = "equals"
            return (
                f"{self.first} {relation} {self.second} on {sample}, but a single common seed"
                f"{self._single_seed_text()} gives no interval: run at least three seeds. "
                f"{self._improvement_text()}"
            )
        bounds = f"95% interval {format_number(interval.low)} to {format_number(interval.high)}"
        if self.significant_sign:
            word = "better" if self.significant_sign > 0 else "worse"
            text = f"{self.first} is {word} than {self.second} by {gap} ({bounds}) on {sample}."
        else:
            text = (
                f"There is no significant difference between {self.first} and {self.second}: "
                f"{format_number(interval.estimate, sign=True)} points ({bounds}) on {sample}. "
                "The interval contains zero, so these seeds do not show which is better."
            )
        return f"{text} {self._improvement_text()}"

    def _improvement_text(self) -> str:
        improvement = self.improvement
        text = f"The probability that a seed of {self.first} has a higher score than a seed of "
        text += f"{self.second} on the same dataset is {improvement.estimate:.2f}"
        low, high = improvement.low, improvement.high
        if low is not None and high is not None and low < high:
            text += f" (95% interval {low:.2f} to {high:.2f})"
        return f"{text}."

    def _seed_text(self) -> str:
        distinct = set(self.seeds.values())
        if len(distinct) == 1:
            (seeds,) = distinct
            return f"{'seeds' if len(seeds) > 1 else 'seed'} {format_ranges(seeds)}"
        counts = [len(seeds) for seeds in distinct]
        if min(counts) == max(counts):
            return f"{count_noun(max(counts), 'common seed')} each"
        return f"{min(counts)} to {max(counts)} common seeds"

    def _single_seed_text(self) -> str:
        """The datasets with a single common seed, unless there is only one dataset."""
        single = [DatasetId(d).short_name for d, seeds in self.seeds.items() if len(seeds) == 1]
        if len(single) < len(self.seeds):
            return f" on {', '.join(single)}"
        return " on each" if len(single) > 1 else ""


def compare_as_text(
    results: SuiteResults | Iterable[Result], objectives: Sequence[str], *, latex: bool = False
) -> str:
    """Compare the first objective with each of the others, as Markdown.

    The Markdown contains the verdict and scores of each pair and how they were measured. ``latex``
    adds the tables for a paper.
    """
    comparisons = compare_objectives(results, objectives)
    text = render_comparisons(comparisons)
    return f"{text}\n\n{render_latex(comparisons)}" if latex else text


def compare_objectives(
    results: SuiteResults | Iterable[Result], objectives: Sequence[str]
) -> list[Comparison]:
    """Every comparison of the first objective, for each source, protocol and arm in common."""
    suite_results = results if isinstance(results, SuiteResults) else suite_results_of(results)
    names = resolve_row_names(objectives)
    first, *others = names
    comparisons = [
        comparison
        for grid in build_grids(suite_results)
        for second in others
        for comparison in _compare_within(_label_named_rows(grid, names), first, second, names)
    ]
    if not comparisons:
        raise InvalidDataError(
            f"No dataset has results of {' and '.join([first, *others])} with a seed in common.",
            "Run them with the same --dataset, --protocol and --seeds.",
        )
    return comparisons


def resolve_row_names(names: Sequence[str]) -> list[str]:
    """Distinct row names with aliases resolved; an error unless there are at least two.

    The name of a row among several of one objective is its label, as in ``av-pbc (beta=0.05)``.
    """
    rows = list(dict.fromkeys(map(_resolve_row_name, names)))
    if len(rows) < 2:
        raise InvalidSettingError("A comparison needs two objectives.", "Name another one.")
    return rows


def is_baseline(row: str) -> bool:
    """Whether a row uses the whole data; suites do not run such rows."""
    return parse_row(row)[0] in BASELINES


def add_baselines(
    results: Iterable[Result], rows: Sequence[str], folder: Path, datasets: Sequence[str]
) -> SuiteResults:
    """Results together with those of the named baselines in any suite of a results folder."""
    added = suite_results_of(results)
    names = {parse_row(row)[0] for row in rows if is_baseline(row)}
    entries = {
        entry.record.key: entry
        for suite in (find_suite_folders(folder) if names else [])
        for entry in read_suite_results(suite).entries
        if entry.spec.objective in names and entry.spec.dataset in datasets
    }
    return replace(added, entries=(*added.entries, *entries.values()))


def _resolve_row_name(name: str) -> str:
    objective, params = parse_row(name)
    if objective in registry:
        objective = registry.resolve_name(objective)
        params = changed_params(registry, objective, params)
    return objective + format_params(params)


def _label_named_rows(grid: Grid, names: Sequence[str]) -> Grid:
    """Label every row whose settings a name states with that name.

    A name that is the label of a row belongs to this row alone; of several other names, the one
    with the most settings is taken. A name without settings, as ``av-pbc``, then matches the other
    rows of the objective.
    """
    labels = {row.label for row in grid.rows}
    requested = {name: split_row_settings(name) for name in names if name not in labels}
    rows = []
    for row in grid.rows:
        values = {"preset": row.preset, **row.spec.settings.model_dump(mode="json")}
        matching = [
            name
            for name, (plain, settings) in requested.items()
            if settings
            and all(values[key] == value for key, value in settings.items())
            and plain in (row.objective, row.objective + format_params(row.spec.objective_params))
        ]
        if row.label not in names and matching:
            row = replace(row, label=max(matching, key=lambda name: len(requested[name][1])))
        rows.append(row)
    return replace(grid, rows=tuple(rows))


def _compare_within(
    grid: Grid, first: str, second: str, names: Sequence[str]
) -> Iterable[Comparison]:
    for arm in sorted({row.arm for row in grid.rows}, key=natural_sort_key):
        rows = [_find_row(grid, name, arm, names) for name in (first, second)]
        if rows[0] is None or rows[1] is None:
            continue
        cells = {
            dataset: (rows[0].cells[dataset], rows[1].cells[dataset])
            for dataset in grid.datasets
            if dataset in rows[0].cells and dataset in rows[1].cells
        }
        seeds = {d: tuple(sorted(a.curves.keys() & b.curves.keys())) for d, (a, b) in cells.items()}
        seeds = {dataset: common for dataset, common in seeds.items() if common}
        if seeds:
            scores = [
                tuple(cells[dataset][i].scores_of(common) for dataset, common in seeds.items())
                for i in (0, 1)
            ]
            yield Comparison(first, second, grid.protocol, arm, grid.source, seeds, *scores)


def _find_row(grid: Grid, name: str, arm: str, names: Sequence[str]) -> Row | None:
    """The row with that label, or the row of the objective that no other name matches."""
    rows = [
        row
        for row in grid.rows
        if row.arm == arm
        and (name == row.label or (name == row.objective and row.label not in names))
    ]
    exact = [row for row in rows if row.label == name]
    if len(rows) > 1 and len(exact) != 1:
        labels = ", ".join(sorted(row.label for row in rows))
        raise InvalidDataError(
            f"{name} matches several rows: {labels}.", "Name one of them in full, in quotes."
        )
    return next(iter(exact or rows), None)


def render_comparisons(comparisons: Sequence[Comparison]) -> str:
    """Verdicts and tables as Markdown, for an issue or a paper."""
    parts = []
    for comparison in comparisons:
        title = f"**{comparison.first} against {comparison.second}** ({_setting(comparison)})"
        parts += [title, comparison.verdict, render_table(comparison_table(comparison))]
    return "\n\n".join([*parts, NOTES["comparison"]])


def render_latex(comparisons: Sequence[Comparison]) -> str:
    """One booktabs tabular per comparison."""
    return "\n\n".join(render_tabular(comparison_table(comparison)) for comparison in comparisons)


def _setting(comparison: Comparison) -> str:
    arm = "" if comparison.arm in SINGLE_ARMS else f", {comparison.arm}"
    return f"{comparison.source}, protocol {comparison.protocol}{arm}"


def comparison_table(comparison: Comparison) -> Table:
    """Scores and differences by dataset, with their average."""
    rows = [
        _row(
            DatasetId(dataset).short_name,
            format_mean_std(first),
            format_mean_std(second),
            stats.mean_interval(stats.differences_per_seed([first], [second])),
            format_ranges(seeds),
        )
        for (dataset, seeds), first, second in zip(
            comparison.seeds.items(),
            comparison.first_scores,
            comparison.second_scores,
            strict=True,
        )
    ]
    if len(rows) > 1:
        first_mean = format_number(stats.grand_mean(comparison.first_scores))
        second_mean = format_number(stats.grand_mean(comparison.second_scores))
        rows.append(_row("average", first_mean, second_mean, comparison.difference, ""))
    names = (comparison.first, comparison.second)
    return Table("", ("dataset", *names, "difference (95% interval)", "seeds"), tuple(rows))


def _row(
    name: str, first: str, second: str, difference: stats.Interval, seeds: str
) -> tuple[Cell, ...]:
    return (*map(Cell, (name, first, second)), interval_cell(difference, sign=True), Cell(seeds))
