"""The tables of the papers, and the measured scores beside them.

``paper_tables.json`` contains the printed figures with their sources. They refer to the nine
gym-mujoco v2 datasets of D4RL, so only those and the embedded datasets, which follow D4RL's recipe,
are compared with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

from obdbench.datasets.identifier import DatasetId
from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.grid import SINGLE_ARMS, Grid, GridCell, Row
from obdbench.reporting.tables.captions import (
    WITHIN_INTERVAL,
    dataset_columns,
    paper_notes,
    table_title,
)
from obdbench.reporting.tables.table import MISSING, Cell, Table, format_number

COMPARABLE_SOURCES = ("d4rl", "embedded")
OTHER_NAMES = {"offrl-whole": ("cal-ql-whole", "td3-bc-whole", "iql-whole")}
ROUNDING = 0.051  # printed averages are rounded, and so are the cells they were computed from


class PaperTable(BaseModel):
    """One printed table: scores by row and dataset; datasets are named without source, version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    protocol: str
    by: str  # what its rows are: "objective" or "arm"
    objective: str | None  # the objective of its rows, where these are arms
    setting: str
    note: str
    datasets: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]  # one score per dataset
    printed_average: dict[str, float]

    def average(self, name: str) -> float:
        """Mean of the cells of a row."""
        return stats.mean_std(self.rows[name])[0]


@cache
def load_paper_tables() -> tuple[PaperTable, ...]:
    """Every printed table."""
    content = files("obdbench.reporting.tables").joinpath("paper_tables.json").read_bytes()
    return TypeAdapter(tuple[PaperTable, ...]).validate_json(content)


def compare_with_papers(grids: list[Grid]) -> list[Table]:
    """Measured scores, printed scores and differences, for every printed table that has a match.

    Results on a single dataset are not compared.
    """
    return [
        _comparison_table(grid, paper)
        for paper in load_paper_tables()
        for grid in grids
        if grid.source in COMPARABLE_SOURCES
        and len(grid.datasets) > 1
        and paper.protocol == grid.protocol
        and any(_matching_rows(grid, paper, name) for name in paper.rows)
    ]


def _matching_rows(grid: Grid, paper: PaperTable, name: str) -> list[Row]:
    if paper.by == "arm":
        return [r for r in grid.rows if r.objective == paper.objective and r.arm == name]
    names = (name, *OTHER_NAMES.get(name, ()))
    rows = [r for r in grid.rows if r.objective in names and r.arm in SINGLE_ARMS]
    return [r for r in rows if r.method != "selection" or r.labels == "data"]


def _comparison_table(grid: Grid, paper: PaperTable) -> Table:
    rows = []
    for name, printed in paper.rows.items():
        matches: list[Row | None] = [*_matching_rows(grid, paper, name)]
        for row in matches or [None]:
            measured = row.cells.items() if row is not None else ()
            cells = {DatasetId(dataset).short_name: cell for dataset, cell in measured}
            scores = [
                _score_cell(cells.get(dataset), score)
                for dataset, score in zip(paper.datasets, printed, strict=True)
            ]
            rows.append((_label_cell(paper, name, row), *scores, _average_cell(cells, paper, name)))
    objective = f" ({paper.objective})" if paper.objective else ""
    return Table(
        title=table_title("papers", grid, f", {paper.name}{objective}"),
        columns=(
            "objective" if paper.by == "objective" else "arm",
            *dataset_columns(paper.datasets),
            "average",
        ),
        rows=tuple(rows),
        notes=paper_notes(grid, paper.source, paper.setting, paper.note),
    )


def _label_cell(paper: PaperTable, name: str, row: Row | None) -> Cell:
    if row is None:
        return Cell(name)
    if paper.by == "objective":
        return Cell(row.label)
    return Cell(name if row.label == paper.objective else f"{name}: {row.label}")


def _score_cell(measured: GridCell | None, printed: float) -> Cell:
    if measured is None or not measured.scores:
        return Cell(f"{MISSING} ({format_number(printed)})")
    mean = stats.mean_std(measured.scores)[0]
    if not measured.complete:
        seeds = f"{len(measured.scores)}/{len(measured.expected_seeds)}"
        return Cell(f"{format_number(mean)} [{seeds}] ({format_number(printed)})", mean)
    difference = _difference_text([measured.scores], [printed])
    return Cell(f"{format_number(mean)} ({format_number(printed)}, {difference})", mean)


def _difference_text(measured: stats.Groups, printed: Sequence[float]) -> str:
    """The measured mean minus the printed one, marked if its interval contains the printed one."""
    interval, published = stats.mean_interval(measured), stats.mean_std(printed)[0]
    text = format_number(interval.estimate - published, sign=True)
    if interval.low is None or interval.high is None:
        return text
    return f"{text} {WITHIN_INTERVAL}" if interval.low <= published <= interval.high else text


def _average_cell(cells: dict[str, GridCell], paper: PaperTable, name: str) -> Cell:
    average, printed = paper.average(name), paper.printed_average.get(name)
    text = format_number(average)
    if printed is not None and abs(printed - average) > ROUNDING:
        text += f"; printed {format_number(printed)}"
    if not all(d in cells and cells[d].complete for d in paper.datasets):
        return Cell(f"{MISSING} ({text})")
    scores = [cells[d].scores for d in paper.datasets]
    mean = stats.grand_mean(scores)
    difference = _difference_text(scores, paper.rows[name])
    return Cell(f"{format_number(mean)} ({text}, {difference})", mean)
