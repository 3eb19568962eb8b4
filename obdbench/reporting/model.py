"""What a table is made of: cells of seeds, rows of cells, grids of rows, and their order."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from obdbench.datasets.identifier import DatasetId
from obdbench.reporting import statistics as stats
from obdbench.reporting.reader import Entry, best
from obdbench.results.headline import Curve, headline

BASELINES = ("behavior", "bc-whole", "cal-ql-whole", "offrl-whole")
OBJECTIVES = ("random", "dbc", "pbc", "av-pbc", "sdw")
_TASKS = ("hopper", "walker2d", "halfcheetah")
_LEVELS = ("simple", "medium-replay", "medium", "medium-expert", "expert")
PLAIN_ARMS = frozenset({"default", "ensemble"})


@dataclass(frozen=True)
class CellData:
    """One row on one dataset: a score for each seed that has one."""

    expected: frozenset[int]
    curves: Mapping[int, Curve]
    files: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @cached_property
    def scores(self) -> tuple[float, ...]:
        """Headline score of each seed, in order of seeds."""
        return tuple(headline(curve) for _, curve in sorted(self.curves.items()))

    def scores_of(self, seeds: Iterable[int]) -> tuple[float, ...]:
        """Headline scores of some seeds, in their order."""
        return tuple(headline(self.curves[seed]) for seed in seeds)

    @cached_property
    def best(self) -> tuple[float, ...]:
        """Best evaluation point of each seed."""
        return tuple(best(curve)[1] for _, curve in sorted(self.curves.items()))

    @property
    def complete(self) -> bool:
        """Whether every expected seed has its score."""
        return bool(self.expected) and self.expected <= self.curves.keys()


@dataclass(frozen=True)
class Row:
    """One objective under one arm, over datasets."""

    identity: str
    objective: str
    arm: str
    label: str
    preset: str
    steps: tuple[int, ...]
    seeds: frozenset[int]
    cells: Mapping[str, CellData]
    wanted: tuple[str, ...]  # the datasets that completeness and averages are about
    entries: tuple[Entry, ...] = field(repr=False, default=())

    @property
    def is_baseline(self) -> bool:
        """Whether the row used the whole data rather than a distilled set."""
        return self.objective in BASELINES

    @property
    def distilled(self) -> bool:
        """Whether any outer step was, or is still to be, taken for its pairs."""
        steps = {
            point[0] for cell in self.cells.values() for c in cell.curves.values() for point in c
        }
        return steps != {0}

    @property
    def found(self) -> int:
        """Scores present among the wanted ones."""
        return sum(len(self.cells[d].curves) for d in self.wanted if d in self.cells)

    @property
    def total(self) -> int:
        """Scores wanted; a dataset never tried counts with the row's own seeds."""
        return sum(
            len(self.cells[d].expected) if d in self.cells else len(self.seeds) for d in self.wanted
        )

    @property
    def complete(self) -> bool:
        """Whether every wanted dataset has every seed: only then has the row an average."""
        return bool(self.wanted) and all(
            d in self.cells and self.cells[d].complete for d in self.wanted
        )

    @cached_property
    def groups(self) -> list[tuple[float, ...]]:
        """Scores by wanted dataset, one a seed."""
        return [self.cells[d].scores for d in self.wanted]

    @cached_property
    def average(self) -> float | None:
        """Mean over datasets of the mean over seeds, where the row is complete."""
        return float(stats.average(stats.arrays(self.groups))) if self.complete else None

    @cached_property
    def iqm(self) -> stats.Interval | None:
        """Interquartile mean with its interval, where the row is complete."""
        return stats.bootstrap(stats.iqm, self.groups) if self.complete else None


@dataclass(frozen=True)
class Grid:
    """All rows of one protocol on the datasets of one source."""

    source: str
    protocol: str
    datasets: tuple[str, ...]
    wanted: tuple[str, ...]
    rows: tuple[Row, ...]
    has_manifest: bool

    @property
    def entries(self) -> list[Entry]:
        """Every result of the grid."""
        return list({e.record.key: e for row in self.rows for e in row.entries}.values())

    @cached_property
    def _rivals(self) -> list[float]:
        averages = (row.average for row in self.rows if not row.is_baseline)
        return sorted(average for average in averages if average is not None)

    def ranked(self) -> list[Row]:
        """Complete rows by falling average, then incomplete ones, then baselines."""

        def place(row: Row) -> tuple[bool, bool, float, tuple[Any, ...]]:
            average = row.average
            return (row.is_baseline, average is None, -(average or 0.0), order_of(row))

        return sorted(self.rows, key=place)

    def rank(self, row: Row) -> int | None:
        """Place among the complete rows that were distilled."""
        if row.is_baseline or row.average is None:
            return None
        return 1 + len(self._rivals) - bisect_right(self._rivals, row.average)


def order_of(row: Row) -> tuple[Any, ...]:
    """The papers' order of objectives, then arms in natural order."""
    known = (*OBJECTIVES, *BASELINES)
    place = known.index(row.objective) if row.objective in known else len(OBJECTIVES) - 0.5
    return (place, row.objective, len(row.identity), row.identity, natural(row.arm))


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Sort key under which 16 comes before 128."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((len(p.lstrip("0")), p.lstrip("0")) if p[0].isdigit() else (-1, p) for p in parts)


def bare(dataset: str) -> str:
    """A dataset without its source and version: ``hopper-medium-replay``; a file by its name."""
    return DatasetId(dataset).short_name


def dataset_order(dataset: str) -> tuple[int, int, str]:
    """Tasks and levels in the papers' order, anything else behind."""
    task, _, level = bare(dataset).rpartition("/")[2].partition("-")
    if task in _TASKS and level in _LEVELS:
        return (_TASKS.index(task), _LEVELS.index(level), dataset)
    return (len(_TASKS), 0, dataset)
