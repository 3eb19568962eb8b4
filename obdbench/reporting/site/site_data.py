"""The data of the leaderboard site, as compact JSON.

==============  ================================================================================
``suites``      name, whether the results are local, measurement facts, and all tables
``methods``     label, family and description; a method is a row label of the tables
``datasets``    facts beside those of D4RL, moments of the states, picture of the states
``rows``        one per suite, data source, protocol, method and arm: averages by task, scores
``settings``    distinct settings of trials, which rows refer to by position
``steps``       distinct lists of evaluation points, which curves refer to by position
``synsets``     distilled pairs in two principal components of the data's states, and pictures of
                some states where MuJoCo can render
==============  ================================================================================

Arrays of points are base64 texts of little-endian 16-bit integers, in units of ``1 / SCALE``.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from obdbench.datasets import embedded
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.projection import StateProjection
from obdbench.datasets.statistics import describe, describe_published
from obdbench.distillation.synset import Synset
from obdbench.errors import ObdError
from obdbench.registry import objectives
from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.grid import SINGLE_ARMS, Grid, GridCell, Row, dataset_sort_key
from obdbench.reporting.grids.suite_results import ResultEntry
from obdbench.reporting.rendering.links import relative_link
from obdbench.reporting.tables.captions import format_budget, measurement_facts
from obdbench.reporting.tables.leaderboard_tables import summary_table
from obdbench.reporting.tables.suite_report import SuiteReport
from obdbench.reporting.tables.table import Table, round_number
from obdbench.results.headline import HEADLINE_POINTS, Curve
from obdbench.results.store import ResultStore
from obdbench.results.synset_store import SynsetStore
from obdbench.tasks.rendering import StatesToRender, render_states

ALL_TASKS = "all"
MAX_CURVE_POINTS = 25
MAX_SYNSETS = 100
MAX_PAIRS = 512
DATA_POINTS = 1500
FRAMES, MAX_FRAMES = 6, 240  # per synset, and in total
SCALE = 1000
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class SiteSuite:
    """A suite on the site; ``local`` suites are shown together with the published ones."""

    report: SuiteReport
    folder: Path  # of the result files
    local: bool = False


class Positions:
    """Distinct JSON values by position."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._positions: dict[str, int] = {}

    def add(self, value: Any) -> int:
        """Return the position of a value, which is appended if it is new."""
        position = self._positions.setdefault(json.dumps(value, sort_keys=True), len(self.values))
        if position == len(self.values):
            self.values.append(value)
        return position


class SiteData:
    """Collects the data of the site."""

    def __init__(self, suites: Sequence[SiteSuite], out: Path) -> None:
        self.suites, self.out = suites, out
        self.methods, self.settings, self.steps = Positions(), Positions(), Positions()
        grids = [grid for suite in suites for grid in suite.report.grids]
        names = {dataset for grid in grids for dataset in grid.datasets}
        self.names = sorted(
            names, key=lambda name: (DatasetId(name).source, *dataset_sort_key(name))
        )
        self.data = {name: dataset for name in self.names if (dataset := load_embedded(name))}
        self.projections = {
            name: StateProjection.fit(dataset.states) for name, dataset in self.data.items()
        }
        self.n_synsets = 0
        self.to_render: list[StatesToRender] = []  # of the first synsets

    def build(self) -> dict[str, Any]:
        """Return everything that the script of the page reads."""
        rows = [
            self._row(number, grid, row, extra)
            for number, suite in enumerate(self.suites)
            for grid in suite.report.grids
            for row, extra in _rows_with_summary(grid)
        ]
        synsets = list(self._synsets())
        frames = render_states(self.to_render) if self.to_render else []
        for synset, pictures in zip(synsets, frames, strict=False):
            synset["frames"] = pictures
        return {
            "scale": SCALE,
            "suites": [self._suite(suite) for suite in self.suites],
            "datasets": [self._dataset(name) for name in self.names],
            "rows": rows,
            "synsets": synsets,
            "n_synsets": self.n_synsets,
            "methods": self.methods.values,
            "settings": self.settings.values,
            "steps": self.steps.values,
        }

    def _suite(self, suite: SiteSuite) -> dict[str, Any]:
        return {
            "name": suite.report.suite,
            "local": suite.local,
            "facts": measurement_facts(suite.report.grids),
            "links": relative_link(self.out, suite.folder),
            "tables": [_table(table) for group in suite.report.tables.values() for table in group],
        }

    def _row(self, suite: int, grid: Grid, row: Row, extra: dict[str, Any]) -> dict[str, Any]:
        about = next((entry.summary for entry in objectives if entry.name == row.objective), "")
        method = {"label": row.label, "family": row.method, "about": about}
        return {
            "suite": suite,
            "source": grid.source,
            "protocol": grid.protocol,
            "method": self.methods.add(method),
            "arm": "" if row.arm in SINGLE_ARMS else row.arm,
            "budget": format_budget(row),
            "rank": grid.rank(row),
            "n": row.n_scores,
            "expected": row.n_expected,
            "average": task_averages(row),
            "extra": extra,
            "settings": _settings(row.entries, self.settings),
            "cells": [
                self._cell(dataset, row.cells[dataset])
                for dataset in grid.datasets
                if dataset in row.cells
            ],
        }

    def _cell(self, dataset: str, cell: GridCell) -> dict[str, Any]:
        curves = [curve for _, curve in sorted(cell.curves.items())]
        return {
            "dataset": self.names.index(dataset),
            "seeds": sorted(cell.curves),
            "scores": [round_number(score) for score in cell.scores],
            "expected": len(cell.expected_seeds),
            "status": next(iter(cell.failures.values()), "missing") if not curves else "",
            "curves": [
                [self.steps.add([step for step, _ in curve]), [round(v, 1) for _, v in curve]]
                for curve in map(thin_curve, curves)
                if len(curve) > 1
            ],
        }

    def _dataset(self, name: str) -> dict[str, Any]:
        identifier = DatasetId(name)
        facts: dict[str, Any] = {
            "id": name,
            "name": identifier.short_name,
            "source": identifier.source,
            "task": identifier.task_name or "",
            "files": self._identities(name),
            "here": {},
            "d4rl": describe_published(f"{identifier.short_name}-v2"),
        }
        if (dataset := self.data.get(name)) is not None:
            projection = self.projections[name]
            states = dataset.states[:: max(1, len(dataset) // DATA_POINTS)]
            facts["here"] = describe(dataset)
            facts["recipe"] = str(dataset.card.get("recipe", ""))
            facts["license"] = str(dataset.card.get("license", ""))
            facts["states"] = encode_points(projection.apply(states))
            facts["explained"] = [round(share, 3) for share in projection.explained]
        return facts

    def _identities(self, name: str) -> list[dict[str, Any]]:
        """The distinct files and teachers behind the results on a dataset."""
        identities = Positions()
        grids = (grid for suite in self.suites for grid in suite.report.grids)
        for entry in (entry for grid in grids for entry in grid.entries):
            record = entry.record
            if entry.spec.dataset == name and record.dataset is not None:
                teacher = record.teacher
                identities.add(
                    {
                        "checksum": record.dataset.checksum[:16],
                        "size": record.dataset.size,
                        "teacher": teacher.id if teacher else "",
                        "teacher_checksum": teacher.checksum[:16] if teacher else "",
                    }
                )
        return identities.values

    def _synsets(self) -> Iterator[dict[str, Any]]:
        """The last synset of the first seed of each row and dataset, where it is stored."""
        for number, suite in enumerate(self.suites):
            if not (suite.folder / "synsets").is_dir():
                continue
            store = ResultStore(suite.folder.parent, suite.folder.name)
            for grid in suite.report.main_grids:
                for row in grid.sorted_rows():
                    for entry in {e.spec.dataset: e for e in reversed(row.entries)}.values():
                        steps = SynsetStore(store, entry.spec).complete_steps()
                        if row.is_baseline or not steps:
                            continue
                        self.n_synsets += 1
                        if self.n_synsets > MAX_SYNSETS:
                            continue
                        synset = self._synset(SynsetStore(store, entry.spec), steps[-1])
                        if synset is not None:
                            yield {"suite": number, "label": row.label, **synset}

    def _synset(self, store: SynsetStore, step: int) -> dict[str, Any] | None:
        spec = store.spec
        try:
            synset = Synset.load(store.synset_path(step, spec.seeds[0]))
        except ObdError:
            return None
        data = self.data.get(spec.dataset)
        same_task = data is not None and data.task == synset.task
        if data is not None and same_task:
            states = data.standardizer.apply(synset.observations)
            projection = self.projections[spec.dataset]
        else:
            states, projection = synset.states, StateProjection.fit(synset.states)
        coordinates = projection.apply(states)[:MAX_PAIRS]
        points = np.hstack([coordinates, synset.actions[:MAX_PAIRS]])
        if FRAMES * len(self.to_render) < MAX_FRAMES:
            order = coordinates[:, 0].argsort()
            shown = order[np.linspace(0, len(order) - 1, min(FRAMES, len(order))).astype(int)]
            observations = synset.observations[shown]
            self.to_render.append(StatesToRender(synset.task.env_id, observations))
        return {
            "dataset": self.names.index(spec.dataset),
            "seed": spec.seeds[0],
            "step": step,
            "pairs": len(synset),
            "actions": synset.task.action_size,
            "over_data": same_task,
            "points": encode_points(points),
        }


def load_embedded(name: str) -> Dataset | None:
    """An embedded dataset; None for other sources, which may need a download."""
    if DatasetId(name).source != "embedded":
        return None
    try:
        return embedded.load(name)
    except ObdError:
        return None


def task_averages(row: Row) -> dict[str, list[float | None]]:
    """Mean over datasets with its 95% interval: over all, and over those of each task.

    A task without every expected score is absent.
    """
    by_task: dict[str, list[str]] = {ALL_TASKS: list(row.expected_datasets)}
    for dataset in row.expected_datasets:
        if task := DatasetId(dataset).task_name:
            by_task.setdefault(task, []).append(dataset)
    averages = {}
    for task, datasets in by_task.items():
        cells = [row.cells.get(dataset) for dataset in datasets]
        groups = [cell.scores for cell in cells if cell is not None and cell.complete]
        if groups and len(groups) == len(datasets):
            interval = stats.mean_interval(groups)
            bounds = (interval.estimate, interval.low, interval.high)
            averages[task] = [round_number(value) for value in bounds]
    return averages


def thin_curve(curve: Curve) -> Curve:
    """At most ``MAX_CURVE_POINTS`` points; those of the headline score are kept."""
    if len(curve) <= MAX_CURVE_POINTS:
        return curve
    early = curve[:-HEADLINE_POINTS]
    chosen = np.linspace(0, len(early) - 1, MAX_CURVE_POINTS - HEADLINE_POINTS).round().astype(int)
    return (*(early[i] for i in chosen), *curve[-HEADLINE_POINTS:])


def encode_points(points: Array) -> str:
    """Rows of numbers as base64 of little-endian 16-bit integers."""
    scaled = np.clip(np.round(points * SCALE), -32767, 32767).astype("<i2")
    return b64encode(scaled.tobytes()).decode()


def _rows_with_summary(grid: Grid) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Rows with the columns of the summary table behind the average, as text and number."""
    table = summary_table(grid)
    for row, cells in zip(grid.rows_by_average(), table.rows, strict=True):
        named = zip(table.columns[2:], cells[2:], strict=True)
        yield row, {name: [cell.text, round_number(cell.value)] for name, cell in named}


def _settings(entries: Sequence[ResultEntry], settings: Positions) -> int | None:
    """Position of the settings of a row, from the first of its results."""
    if not entries:
        return None
    spec = entries[0].spec
    content = spec.model_dump(mode="json", exclude={"dataset", "seeds", "protocol", "code"})
    own = content.pop("settings")
    params = {f"objective {n}": v for n, v in content.pop("objective_params").items()}
    params |= {f"protocol {n}": v for n, v in content.pop("protocol_params").items()}
    return settings.add({k: v for k, v in {**content, **params, **own}.items() if v is not None})


def _table(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": table.columns,
        "text_columns": table.n_text_columns,
        "rows": [
            [_trim([c.text, round_number(c.value), c.link, c.bold]) for c in row]
            for row in table.rows
        ],
        "notes": table.notes,
    }


def _trim(values: list[Any]) -> list[Any]:
    """The values without trailing empty ones."""
    while len(values) > 1 and (values[-1] is None or values[-1] is False or values[-1] == ""):
        values.pop()
    return values
