"""Rows of datasets: results that belong together, counted against what was expected.

A row is one objective with its parameters and settings, under one arm of one protocol. Its cells
hold one score a seed. A row depends on its own results only, so that a file dropped elsewhere
changes no number of it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from obdbench.bench.spec import TrialSpec
from obdbench.report import stats
from obdbench.report.reader import Collection, Curve, Entry, best, headline, source_of

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
        rivals = [other.average for other in self.rows if not other.is_baseline]
        return 1 + sum(rival is not None and rival > row.average for rival in rivals)


def grids(collection: Collection) -> list[Grid]:
    """The collection as grids, by source and protocol."""
    entries: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    specs: dict[tuple[str, str], list[TrialSpec]] = defaultdict(list)
    for entry in collection.entries:
        entries[source_of(entry.spec.dataset), entry.spec.protocol].append(entry)
    for spec in collection.expected:
        specs[source_of(spec.dataset), spec.protocol].append(spec)
    return [
        _grid(source, protocol, entries[source, protocol], specs[source, protocol], collection)
        for source, protocol in sorted(entries.keys() | specs.keys())
    ]


def _grid(
    source: str,
    protocol: str,
    entries: list[Entry],
    expected: list[TrialSpec],
    collection: Collection,
) -> Grid:
    specs = {spec.key: spec for spec in [*expected, *(entry.spec for entry in entries)]}
    name_of = _identities(specs)
    seen = {spec.dataset for spec in specs.values()}
    wanted = {spec.dataset for spec in expected} or seen
    by_row: dict[str, list[TrialSpec]] = defaultdict(list)
    for key, spec in specs.items():
        by_row[name_of[key]].append(spec)
    entry_of = {entry.record.key: entry for entry in entries}
    order = tuple(sorted(wanted, key=dataset_order))
    rows = [
        row
        for identity, members in by_row.items()
        for row in _rows(identity, members, entry_of, order)
    ]
    labels = _labels(rows)
    named = [replace(row, label=labels[row.identity]) for row in sorted(rows, key=order_of)]
    datasets = tuple(sorted(seen, key=dataset_order))
    return Grid(source, protocol, datasets, order, tuple(named), collection.has_manifest)


def _identities(specs: Mapping[str, TrialSpec]) -> dict[str, str]:
    """Name the row of each spec by all that is not its dataset, its seeds or its arm.

    Outer steps may differ between the datasets of one row, as they do in the papers; where they
    differ on one dataset they part two rows.
    """
    contents: dict[str, dict[str, Any]] = {}
    lengths: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for key, spec in specs.items():
        content = spec.model_dump(mode="json", exclude={"dataset", "seeds", "preset", "protocol"})
        steps = content["settings"].pop("steps")
        if spec.protocol == "size":
            content["settings"].pop("pairs")
        contents[key] = content
        lengths[_canonical(content), spec.dataset, spec.settings.pairs].add(steps)
    parted = {name for (name, _, _), steps in lengths.items() if len(steps) > 1}
    names = {}
    for key, content in contents.items():
        name = _canonical(content)
        if name in parted:
            content["settings"]["steps"] = specs[key].settings.steps
            name = _canonical(content)
        names[key] = name
    return names


def _rows(
    identity: str,
    specs: list[TrialSpec],
    entry_of: Mapping[str, Entry],
    wanted: tuple[str, ...],
) -> Iterable[Row]:
    by_arm: dict[str, list[TrialSpec]] = defaultdict(list)
    arms = {arm for spec in specs if spec.key in entry_of for arm in entry_of[spec.key].curves}
    for spec in specs:
        for arm in _arms_of(spec, arms):
            by_arm[arm].append(spec)
    for arm, members in by_arm.items():
        by_dataset: dict[str, list[TrialSpec]] = defaultdict(list)
        for spec in members:
            by_dataset[spec.dataset].append(spec)
        entries = [entry_of[spec.key] for spec in members if spec.key in entry_of]
        yield Row(
            identity=identity,
            objective=members[0].objective,
            arm=arm,
            label=members[0].objective,
            preset=" ".join(sorted({spec.preset for spec in members})),
            steps=tuple(sorted({spec.settings.steps for spec in members})),
            seeds=frozenset(seed for spec in members for seed in spec.seeds),
            cells={d: _cell(arm, group, entry_of) for d, group in by_dataset.items()},
            wanted=wanted,
            entries=tuple(sorted(entries, key=lambda entry: dataset_order(entry.spec.dataset))),
        )


def _arms_of(spec: TrialSpec, arms: set[str]) -> Iterable[str]:
    if spec.protocol == "size":
        return (str(spec.settings.pairs),)
    return sorted(arms) or ("default",)


def _cell(arm: str, specs: list[TrialSpec], entry_of: Mapping[str, Entry]) -> CellData:
    """Join the trials of one cell; of two scores for a seed the larger trial's stands."""
    curves: dict[int, Curve] = {}
    files, failures = [], []
    for spec in sorted(specs, key=lambda spec: (-len(spec.seeds), spec.key)):
        entry = entry_of.get(spec.key)
        if entry is None:
            continue
        scored = entry.curves.get(arm, {})
        if spec.protocol == "size":
            scored = next(iter(entry.curves.values()), {})
        if entry.record.status != "ok":
            failures.append(entry.record.status)
        new = {seed: curve for seed, curve in scored.items() if seed not in curves}
        curves |= new
        if new or not scored:
            files.append(entry.file)
    expected = frozenset(seed for spec in specs for seed in spec.seeds)
    return CellData(expected, curves, tuple(files), tuple(failures))


def _labels(rows: list[Row]) -> dict[str, str]:
    """Name rows by objective and parameters, and by whatever else tells variants apart."""
    by_objective: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_objective[row.objective][row.identity] = json.loads(row.identity)
    labels = {}
    for objective, variants in by_objective.items():
        facts = {identity: _facts(content) for identity, content in variants.items()}
        for identity, content in variants.items():
            shown = content["objective_params"] | {
                name: value
                for name, value in facts[identity].items()
                if any(other.get(name) != value for other in facts.values())
            }
            details = ", ".join(f"{name}={_plain(shown[name])}" for name in sorted(shown))
            labels[identity] = f"{objective} ({details})" if details else objective
    return labels


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    flat = {**content["settings"], **content["protocol_params"]}
    rest = {"objective", "objective_params", "settings", "protocol_params"}
    return flat | {name: value for name, value in content.items() if name not in rest}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def order_of(row: Row) -> tuple[Any, ...]:
    """The papers' order of objectives, then arms in natural order."""
    known = (*OBJECTIVES, *BASELINES)
    place = known.index(row.objective) if row.objective in known else len(OBJECTIVES) - 0.5
    return (place, row.objective, len(row.identity), row.identity, natural(row.arm))


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Sort key under which 16 comes before 128."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((int(p), "") if p.isdecimal() else (-1, p) for p in parts)


def bare(dataset: str) -> str:
    """A dataset without its source and version: ``hopper-medium-replay``."""
    return re.sub(r"-v\d+$", "", dataset.partition("/")[2] or dataset)


def dataset_order(dataset: str) -> tuple[int, int, str]:
    """Tasks and levels in the papers' order, anything else behind."""
    task, _, level = bare(dataset).rpartition("/")[2].partition("-")
    if task in _TASKS and level in _LEVELS:
        return (_TASKS.index(task), _LEVELS.index(level), dataset)
    return (len(_TASKS), 0, dataset)
