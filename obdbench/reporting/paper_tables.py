"""The papers' tables, and ours beside them.

``paper_tables.json`` contains the printed figures with their sources. PaperTable datasets are the nine
gym-mujoco v2 sets of D4RL, so that only ``d4rl/`` and its stand-ins are set beside them.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict

from obdbench.datasets.identifier import DatasetId
from obdbench.reporting import statistics as stats
from obdbench.reporting.captions import STAND_IN, measurement_facts, stand_in_warning, with_source
from obdbench.reporting.commands import format_commands
from obdbench.reporting.grid import (
    SINGLE_ARMS,
    Grid,
    GridCell,
    Row,
    dataset_sort_key,
)
from obdbench.reporting.table import MISSING, Cell, Table, format_number

COMPARABLE = ("d4rl", STAND_IN)
ALIASES = {"offrl-whole": "cal-ql-whole"}
ROUNDING = 0.051  # a printed average may be rounded, and made of rounded cells


class PaperTable(BaseModel):
    """One printed table: rows of scores by dataset, named without source and version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    protocol: str
    by: str  # what its rows are: "objective" or "arm"
    objective: str | None  # whose arms they are
    setting: str
    note: str
    rows: dict[str, dict[str, float]]
    printed_average: dict[str, float]

    @property
    def datasets(self) -> list[str]:
        """All datasets of the table, in the usual order."""
        return sorted({d for cells in self.rows.values() for d in cells}, key=dataset_sort_key)

    def average(self, name: str) -> float:
        """Mean of a row's own cells."""
        return stats.mean_std(list(self.rows[name].values()))[0]


class _File(BaseModel):
    tables: tuple[PaperTable, ...]


@cache
def load_paper_tables() -> tuple[PaperTable, ...]:
    """Every printed table."""
    text = files("obdbench.reporting").joinpath("paper_tables.json").read_text(encoding="utf-8")
    return _File.model_validate_json(text).tables


def compare_with_papers(grids: list[Grid], suite: str) -> list[Table]:
    """Measured beside published, with differences, for every printed table that has a match."""
    return [
        _beside(grid, paper, suite)
        for paper in load_paper_tables()
        for grid in grids
        if grid.source in COMPARABLE
        and paper.protocol == grid.protocol
        and any(_matches(grid, paper, n) for n in paper.rows)
    ]


def _matches(grid: Grid, paper: PaperTable, name: str) -> list[Row]:
    if paper.by == "arm":
        return [r for r in grid.rows if r.objective == paper.objective and r.arm == name]
    wanted = {name, ALIASES.get(name, name)}
    return [r for r in grid.rows if r.objective in wanted and r.arm in SINGLE_ARMS]


def _beside(grid: Grid, paper: PaperTable, suite: str) -> Table:
    lines = []
    for name, figures in paper.rows.items():
        matches: list[Row | None] = [*_matches(grid, paper, name)]
        for row in matches or [None]:
            cells = (
                {DatasetId(d).short_name: c for d, c in row.cells.items()}
                if row is not None
                else {}
            )
            line = [Cell(_label(paper, name, row))]
            line += [_cell(cells.get(d), figures.get(d)) for d in paper.datasets]
            lines.append((*line, _average(cells, paper, name)))
    mark = "†" if grid.source == STAND_IN else ""
    notes = (
        "Measured (published, difference); differences are of means over seeds, for complete "
        "cells alone.",
        f"Published: {paper.source}; {paper.setting}.",
        *([paper.note] if paper.note else []),
    )
    whose = f" ({paper.objective})" if paper.objective else ""
    return Table(
        name="published",
        title=with_source(f"Measured beside published, {paper.name}{whose}", grid),
        source=grid.source,
        columns=(
            "objective" if paper.by == "objective" else "arm",
            *(f"{d.replace('-', chr(10), 1)}{mark}" for d in paper.datasets),
            "average",
        ),
        rows=tuple(lines),
        head=measurement_facts(grid),
        notes=notes,
        caution=stand_in_warning(grid),
        command=format_commands(grid),
    )


def _label(paper: PaperTable, name: str, row: Row | None) -> str:
    if row is None:
        return name
    if paper.by == "objective":
        return row.label
    return name if row.label == paper.objective else f"{name}: {row.label}"


def _cell(measured: GridCell | None, figure: float | None) -> Cell:
    if figure is None:
        return Cell(MISSING)
    if measured is None or not measured.scores:
        return Cell(f"{MISSING} ({format_number(figure)})")
    mean = stats.mean_std(measured.scores)[0]
    if not measured.complete:
        share = f"{len(measured.scores)}/{len(measured.expected_seeds)}"
        return Cell(
            f"{format_number(mean)} [{share}] ({format_number(figure)})", mean, measured.files
        )
    difference = format_number(mean - figure, sign=True)
    return Cell(
        f"{format_number(mean)} ({format_number(figure)}, {difference})", mean, measured.files
    )


def _average(cells: dict[str, GridCell], paper: PaperTable, name: str) -> Cell:
    figure, printed = paper.average(name), paper.printed_average.get(name)
    text = format_number(figure)
    if printed is not None and abs(printed - figure) > ROUNDING:
        text += f"; printed {format_number(printed)}"
    names = paper.rows[name]
    if not all(d in cells and cells[d].complete for d in names):
        return Cell(f"{MISSING} ({text})")
    mean = stats.grand_mean([cells[d].scores for d in names])
    return Cell(f"{format_number(mean)} ({text}, {format_number(mean - figure, sign=True)})", mean)
