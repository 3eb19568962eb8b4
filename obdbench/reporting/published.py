"""The papers' tables, and ours beside them.

``published.json`` carries the printed figures with their sources. Published datasets are the nine
gym-mujoco v2 sets of D4RL, so that only ``d4rl/`` and its stand-ins are set beside them.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict

from obdbench.reporting import statistics as stats
from obdbench.reporting.captions import STAND_IN, caution, head, titled
from obdbench.reporting.model import PLAIN_ARMS, CellData, Grid, Row, bare, dataset_order
from obdbench.reporting.reproduce import command
from obdbench.reporting.table import MISSING, Cell, Table, number

COMPARABLE = ("d4rl", STAND_IN)
ALIASES = {"offrl-whole": "cal-ql-whole"}
ROUNDING = 0.051  # a printed average may be rounded, and made of rounded cells


class Published(BaseModel):
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
        return sorted({d for cells in self.rows.values() for d in cells}, key=dataset_order)

    def average(self, name: str) -> float:
        """Mean of a row's own cells."""
        return stats.mean_std(list(self.rows[name].values()))[0]


class _File(BaseModel):
    tables: tuple[Published, ...]


@cache
def published() -> tuple[Published, ...]:
    """Every printed table."""
    text = files("obdbench.reporting").joinpath("published.json").read_text(encoding="utf-8")
    return _File.model_validate_json(text).tables


def beside_published(grids: list[Grid], suite: str) -> list[Table]:
    """Measured beside published, with differences, for every printed table that has a match."""
    return [
        _beside(grid, paper, suite)
        for paper in published()
        for grid in grids
        if grid.source in COMPARABLE
        and paper.protocol == grid.protocol
        and any(_matches(grid, paper, n) for n in paper.rows)
    ]


def _matches(grid: Grid, paper: Published, name: str) -> list[Row]:
    if paper.by == "arm":
        return [r for r in grid.rows if r.objective == paper.objective and r.arm == name]
    wanted = {name, ALIASES.get(name, name)}
    return [r for r in grid.rows if r.objective in wanted and r.arm in PLAIN_ARMS]


def _beside(grid: Grid, paper: Published, suite: str) -> Table:
    lines = []
    for name, figures in paper.rows.items():
        matches: list[Row | None] = [*_matches(grid, paper, name)]
        for row in matches or [None]:
            cells = {bare(d): c for d, c in row.cells.items()} if row is not None else {}
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
        title=titled(f"Measured beside published, {paper.name}{whose}", grid),
        source=grid.source,
        columns=(
            "objective" if paper.by == "objective" else "arm",
            *(f"{d.replace('-', chr(10), 1)}{mark}" for d in paper.datasets),
            "average",
        ),
        rows=tuple(lines),
        head=head(grid),
        notes=notes,
        caution=caution(grid),
        command=command(grid, suite),
    )


def _label(paper: Published, name: str, row: Row | None) -> str:
    if row is None:
        return name
    if paper.by == "objective":
        return row.label
    return name if row.label == paper.objective else f"{name}: {row.label}"


def _cell(measured: CellData | None, figure: float | None) -> Cell:
    if figure is None:
        return Cell(MISSING)
    if measured is None or not measured.scores:
        return Cell(f"{MISSING} ({number(figure)})")
    mean = stats.mean_std(measured.scores)[0]
    if not measured.complete:
        share = f"{len(measured.scores)}/{len(measured.expected)}"
        return Cell(f"{number(mean)} [{share}] ({number(figure)})", mean, measured.files)
    difference = number(mean - figure, sign=True)
    return Cell(f"{number(mean)} ({number(figure)}, {difference})", mean, measured.files)


def _average(cells: dict[str, CellData], paper: Published, name: str) -> Cell:
    figure, printed = paper.average(name), paper.printed_average.get(name)
    text = number(figure)
    if printed is not None and abs(printed - figure) > ROUNDING:
        text += f"; printed {number(printed)}"
    names = paper.rows[name]
    if not all(d in cells and cells[d].complete for d in names):
        return Cell(f"{MISSING} ({text})")
    mean = float(stats.average(stats.arrays([cells[d].scores for d in names])))
    return Cell(f"{number(mean)} ({text}, {number(mean - figure, sign=True)})", mean)
