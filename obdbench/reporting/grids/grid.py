"""Grids of scores: rows are objectives, columns are datasets, and a cell has one score per seed."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from obdbench.datasets.identifier import DatasetId
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.suite_results import ResultEntry, best_point
from obdbench.results.headline import Curve, distilled_points, headline_score

BASELINES = (
    "behavior",
    "bc-whole",
    "pbc-whole",
    "td3-bc-whole",
    "iql-whole",
    "cal-ql-whole",
    "offrl-whole",
)
SELECTIONS = ("random", "kmeans++", "top-q", "top-return", "omp", "sdr")
OBJECTIVES = ("random", "dbc", "pbc", "av-pbc", "sdw")
_TASKS = ("hopper", "walker2d", "halfcheetah")
_LEVELS = ("simple", "medium-replay", "medium", "medium-expert", "expert")
METHODS = ("distillation", "selection", "whole data")  # the order of rows
SINGLE_ARMS = frozenset({"default", "ensemble"})


@dataclass(frozen=True)
class GridCell:
    """One row on one dataset: a curve for each seed that has scores."""

    expected_seeds: frozenset[int]
    curves: Mapping[int, Curve]
    failures: Mapping[int, str] = field(default_factory=dict)  # by seed: status of its trial
    missed_variance: Mapping[int, Curve] = field(default_factory=dict)  # of checked seeds
    high_missed_variance: frozenset[int] = frozenset()  # seeds that are marked

    @cached_property
    def scores(self) -> tuple[float, ...]:
        """Headline score of each seed, in the order of the seeds."""
        return self.scores_of(sorted(self.curves))

    def scores_of(self, seeds: Iterable[int]) -> tuple[float, ...]:
        """Headline scores of the given seeds, in their order."""
        return tuple(headline_score(self.curves[seed]) for seed in seeds)

    @cached_property
    def best_scores(self) -> tuple[float, ...]:
        """Best evaluation point of each seed."""
        return tuple(best_point(curve)[1] for _, curve in sorted(self.curves.items()))

    @cached_property
    def change(self) -> float | None:
        """Mean over seeds of the headline score minus the score of step 0; None without both."""
        curves = self.curves.values()
        if not curves or any(c[0][0] != 0 or distilled_points(c) == c for c in curves):
            return None
        return stats.mean_std([headline_score(curve) - curve[0][1] for curve in curves])[0]

    @property
    def complete(self) -> bool:
        """Whether every expected seed has a score."""
        return bool(self.expected_seeds) and self.expected_seeds <= self.curves.keys()


@dataclass(frozen=True)
class Row:
    """One objective with its parameters, under one arm, over datasets."""

    identity: str
    spec: TrialSpec = field(repr=False)  # of one trial: others may differ in dataset, seeds, steps
    arm: str
    label: str
    preset: str
    steps: tuple[int, ...]
    seeds: frozenset[int]
    cells: Mapping[str, GridCell]
    expected_datasets: tuple[str, ...]  # completeness and averages refer to these datasets
    trials: frozenset[str] = field(repr=False)  # their keys, with and without a result
    entries: tuple[ResultEntry, ...] = field(repr=False, default=())

    @property
    def objective(self) -> str:
        """Name of the objective or baseline."""
        return self.spec.objective

    @cached_property
    def method(self) -> str:
        """One of ``METHODS``: how the row obtains what it clones."""
        if self.is_baseline:
            return "whole data"
        curves = [curve for cell in self.cells.values() for curve in cell.curves.values()]
        undistilled = {step for curve in curves for step, _ in curve} == {0}
        selected = self.objective in SELECTIONS or undistilled
        return "selection" if selected else "distillation"

    @cached_property
    def labels(self) -> str:
        """Whose actions the objective imitates or the selected pairs carry: data or teacher."""
        if self.method == "selection":
            return str(self.spec.objective_params.get("labels", self.spec.settings.init_labels))
        has_teacher = any(entry.record.teacher is not None for entry in self.entries)
        return "teacher" if has_teacher and self.objective != "dbc" else "data"

    @property
    def is_baseline(self) -> bool:
        """Whether the row used the whole dataset rather than a distilled synset."""
        return self.objective in BASELINES

    @property
    def n_scores(self) -> int:
        """Number of scores on the expected datasets."""
        return sum(len(self.cells[d].curves) for d in self.expected_datasets if d in self.cells)

    @property
    def n_expected(self) -> int:
        """Number of expected scores; a dataset without trials counts every seed of the row."""
        return sum(
            len(self.cells[d].expected_seeds if d in self.cells else self.seeds)
            for d in self.expected_datasets
        )

    @property
    def complete(self) -> bool:
        """Whether every expected dataset has every seed; only then does the row have an average."""
        return bool(self.expected_datasets) and all(
            d in self.cells and self.cells[d].complete for d in self.expected_datasets
        )

    @cached_property
    def scores_by_dataset(self) -> list[tuple[float, ...]]:
        """Scores of the seeds, for each expected dataset."""
        return [self.cells[d].scores for d in self.expected_datasets]

    @cached_property
    def average(self) -> float | None:
        """Mean over datasets of the mean over seeds; None where the row is incomplete."""
        return stats.grand_mean(self.scores_by_dataset) if self.complete else None

    @cached_property
    def change(self) -> float | None:
        """Mean over datasets of the change since step 0; None where it is not known for all."""
        changes = [self.cells[d].change for d in self.expected_datasets] if self.complete else []
        known = [change for change in changes if change is not None]
        if not known or len(known) < len(changes) or self.method != "distillation":
            return None
        return stats.mean_std(known)[0]

    @cached_property
    def iqm(self) -> stats.Interval | None:
        """Interquartile mean with its interval; None where the row is incomplete."""
        if not self.complete:
            return None
        return stats.bootstrap_interval(stats.interquartile_mean, self.scores_by_dataset)


@dataclass(frozen=True)
class Grid:
    """All rows of one protocol on the datasets of one source."""

    source: str
    protocol: str
    datasets: tuple[str, ...]
    expected_datasets: tuple[str, ...]
    rows: tuple[Row, ...]
    has_manifest: bool

    @property
    def entries(self) -> list[ResultEntry]:
        """Every result of the grid."""
        return list({e.record.key: e for row in self.rows for e in row.entries}.values())

    @property
    def ranked_rows(self) -> list[Row]:
        """The rows without the baselines; the baselines where there is nothing else."""
        return [row for row in self.rows if not row.is_baseline] or list(self.rows)

    @cached_property
    def _ranked_averages(self) -> list[float]:
        averages = (row.average for row in self.rows if _can_have_rank(row))
        return sorted(average for average in averages if average is not None)

    def sorted_rows(self) -> list[Row]:
        """Distillation by budget, selection, whole data; each by descending average.

        The budget with the highest average comes first.
        """

        def budget(row: Row) -> tuple[Any, ...]:
            return (row.spec.settings.pairs, row.steps) if row.method == "distillation" else ()

        highest: dict[tuple[Any, ...], float] = {}
        for row in self.rows:
            if row.average is not None:
                highest[budget(row)] = max(highest.get(budget(row), -math.inf), row.average)
        return sorted(
            self.rows,
            key=lambda row: (
                METHODS.index(row.method),
                -highest.get(budget(row), -math.inf),
                budget(row),
                _average_sort_key(row),
            ),
        )

    def rows_by_average(self) -> list[Row]:
        """Distillation of all budgets, selection, whole data; each by descending average."""
        return sorted(
            self.rows, key=lambda row: (METHODS.index(row.method), _average_sort_key(row))
        )

    def leading_selections(self) -> list[Row]:
        """Random selection, and the best selection for each source of labels."""
        selections = [row for row in self.rows_by_average() if row.method == "selection"]
        first_of = {row.labels: row for row in reversed(selections)}
        return [row for row in selections if row.label == "random" or first_of[row.labels] is row]

    def leading_rows(self) -> list[Row]:
        """The distilled row of every objective with the highest average, and leading selections."""
        distilled = [row for row in self.rows_by_average() if row.method == "distillation"]
        first_of = {row.objective: row for row in reversed(distilled)}
        return [*first_of.values(), *self.leading_selections()]

    def rank(self, row: Row) -> int | None:
        """Rank among the complete rows that may have one; None for other rows."""
        if not _can_have_rank(row) or row.average is None:
            return None
        return 1 + len(self._ranked_averages) - bisect_right(self._ranked_averages, row.average)


def _can_have_rank(row: Row) -> bool:
    """Whether a row may have a rank; scores of different arms or of baselines are not compared."""
    return row.arm in SINGLE_ARMS and not row.is_baseline


def _average_sort_key(row: Row) -> tuple[Any, ...]:
    return (row.average is None, -(row.average or 0.0), row_sort_key(row))


def row_sort_key(row: Row) -> tuple[Any, ...]:
    """Selection methods, objectives in the papers' order, then arms in natural order."""
    own = (*SELECTIONS, *OBJECTIVES[1:])
    known = (*own, *BASELINES)
    position = known.index(row.objective) if row.objective in known else len(own) - 0.5
    return (position, row.objective, len(row.identity), row.identity, natural_sort_key(row.arm))


def natural_sort_key(text: str) -> tuple[tuple[int, str], ...]:
    """Sort key under which 16 comes before 128."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((len(p.lstrip("0")), p.lstrip("0")) if p[0].isdigit() else (-1, p) for p in parts)


def dataset_sort_key(dataset: str) -> tuple[int, int, str]:
    """Tasks and levels in the papers' order, other datasets after them."""
    task, _, level = DatasetId(dataset).short_name.rpartition("/")[2].partition("-")
    if task in _TASKS and level in _LEVELS:
        return (_TASKS.index(task), _LEVELS.index(level), dataset)
    return (len(_TASKS), 0, dataset)
