"""Everything that the pages of one suite show: its grids and tables, by block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from obdbench.errors import InvalidDataError
from obdbench.reporting.grids.grid import Grid
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import (
    SuiteResults,
    find_suite_folders,
    is_suite_folder,
    read_suite_results,
)
from obdbench.reporting.tables.leaderboard_tables import (
    best_points_table,
    cost_table,
    data_table,
    files_table,
    gaps_table,
    improvement_table,
    scores_table,
)
from obdbench.reporting.tables.paper_tables import compare_with_papers
from obdbench.reporting.tables.table import Table

FIRST_SUITES = ("quick", "embedded", "d4rl")
PROTOCOL_BLOCKS = ("cross-architecture", "cross-optimizer", "ensemble", "size", "other")


@dataclass(frozen=True)
class SuiteReport:
    """The grids of a suite and all its tables, by block in the order of the pages."""

    results: SuiteResults
    grids: tuple[Grid, ...]
    tables: dict[str, list[Table]]

    @property
    def suite(self) -> str:
        """The name of the suite."""
        return self.results.suite

    @property
    def main_grids(self) -> list[Grid]:
        """The grids of the default protocol."""
        return [grid for grid in self.grids if grid.protocol == "default"]


def build_report(results: SuiteResults) -> SuiteReport:
    """Compute every table of a suite."""
    grids = build_grids(results)
    main = [grid for grid in grids if grid.protocol == "default"]
    protocols: dict[str, list[Table]] = {block: [] for block in PROTOCOL_BLOCKS}
    for grid in grids:
        if grid.protocol != "default":
            block = grid.protocol if grid.protocol in protocols else "other"
            protocols[block].append(scores_table(grid))
    tables = {
        "main": [scores_table(grid) for grid in main],
        "comparisons": [table for grid in main if (table := improvement_table(grid))],
        **protocols,
        "papers": compare_with_papers(grids),
        "best": [best_points_table(grid) for grid in main],
        "cost": [cost_table(grid) for grid in main],
        "data": [data_table(grid) for grid in main],
        "gaps": [table] if (table := gaps_table(results)) else [],
        "files": [files_table(results)] if results.entries else [],
    }
    return SuiteReport(results, tuple(grids), tables)


def read_reports(
    root: Path,
    strict: bool,
    empty_suites: Iterable[str] = (),
    remedy: str = "Give it with --out.",
) -> dict[str, SuiteReport]:
    """The report of every suite below ``root``, and an empty one for each of ``empty_suites``.

    ``FIRST_SUITES`` come first. ``remedy`` is that of the error if there are no results.
    """
    folders = {folder.name: folder for folder in find_suite_folders(root)}
    if not folders:
        is_suite = root.is_dir() and is_suite_folder(root)
        parent_hint = f"Give the folder above: {root.resolve().parent}."
        raise InvalidDataError(
            f"{root} contains no folder with the results of a suite.",
            parent_hint if is_suite else remedy,
        )
    position = {name: i for i, name in enumerate(FIRST_SUITES)}
    names = sorted({*folders, *empty_suites}, key=lambda n: (position.get(n, len(position)), n))
    return {
        name: build_report(
            read_suite_results(folders[name], strict) if name in folders else SuiteResults(name)
        )
        for name in names
    }
