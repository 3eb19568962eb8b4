"""What stands around a table: how it was measured, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from obdbench.datasets.identifier import DatasetId
from obdbench.reporting.grid import Grid, Row, natural_sort_key
from obdbench.reporting.table import MISSING
from obdbench.results.headline import HEADLINE_POINTS
from obdbench.results.headline import distilled_points as counting

STAND_IN = "recon"
MEMBERS = 10  # the ensemble's own default; its module would import torch
CAUTION = (
    "Stand-ins, not D4RL (†): regenerated from published teachers to match D4RL's state moments"
)


def measurement_facts(grid: Grid) -> tuple[str, ...]:
    """How it was measured: source, protocol, seeds, budget, environment, versions, date."""
    entries = grid.entries
    environments = [e.record.environment for e in entries if e.record.environment]
    versions = sorted({f"{n} {v}" for e in environments for n, v in e.versions.items()})
    started = max((e.record.timing.started for e in entries), default="")
    return (
        f"data {grid.source} ({count_noun(len(grid.datasets), 'dataset')})",
        f"protocol {grid.protocol}{_episodes(grid)}",
        f"budget {_budgets(grid)}",
        f"seeds {format_ranges(all_seeds(grid))}",
        f"environment {_list(e.env_id for e in environments)}",
        f"device {_list(e.device for e in environments)}",
        f"versions {', '.join(versions) or MISSING}",
        f"newest result {started[:10] or MISSING}",
    )


def distilled_rows(grid: Grid) -> list[Row]:
    """The rows that a table is about; baselines where there is nothing else."""
    return [row for row in grid.rows if not row.is_baseline] or list(grid.rows)


def all_seeds(grid: Grid) -> list[int]:
    """All seeds of these rows."""
    return sorted({seed for row in distilled_rows(grid) for seed in row.seeds})


def _budgets(grid: Grid) -> str:
    texts = dict.fromkeys(format_budget(row) for row in distilled_rows(grid))
    return " or ".join(text for text in texts if text != MISSING) or MISSING


def _episodes(grid: Grid) -> str:
    shapes = sorted({e.episodes for row in distilled_rows(grid) for e in row.entries if e.episodes})
    texts = []
    for shape in shapes:
        runs = "/".join(map(str, sorted(set(shape))))
        acting = count_noun(len(shape), "policy", "policies")
        if grid.protocol == "ensemble":
            acting = _ensembles(grid)
        texts.append(f"{acting} × {runs} episodes a point")
    return f", {' or '.join(dict.fromkeys(texts))}" if texts else ""


def _ensembles(grid: Grid) -> str:
    given = (entry.spec.protocol_params for row in grid.rows for entry in row.entries)
    sizes = sorted({params.get("policies", MEMBERS) for params in given})
    return f"an ensemble of {'/'.join(map(str, sizes))}"


def score_notes(grid: Grid) -> tuple[str, ...]:
    """How to read a table of scores."""
    lines = [
        "D4RL-normalized return, 0 to 100: mean ± standard deviation over seeds; a seed's score is "
        f"that of its last {_points(grid)}. The average is that of the datasets' means and decides "
        "the rank; incomplete rows (n/N seeds) have neither. Every cell links its result files."
    ]
    if any(row.is_baseline for row in grid.rows):
        lines.append(
            "behavior is the return of the data itself; rows named whole train on the whole "
            "dataset (baselines/). They are not distilled and have no rank."
        )
    if mixed := datasets_with_several_checksums(grid):
        lines.append(
            f"The columns {', '.join(mixed)} hold results from different files of that name, as "
            "are stand-ins rebuilt on other processors; data and teachers below have checksums."
        )
    if not grid.has_manifest:
        lines.append("There is no manifest: trials that left no result cannot be known.")
    return tuple(lines)


def datasets_with_several_checksums(grid: Grid) -> list[str]:
    """Datasets that the grid's results know by more than one checksum."""
    held: dict[str, set[str]] = {}
    for entry in grid.entries:
        if (source := entry.record.dataset) is not None:
            held.setdefault(source.id, set()).add(source.checksum)
    return [
        DatasetId(dataset).short_name for dataset in grid.datasets if len(held.get(dataset, ())) > 1
    ]


def _points(grid: Grid) -> str:
    cells = (cell for row in distilled_rows(grid) for cell in row.cells.values())
    curves = (curve for cell in cells for curve in cell.curves.values())
    most = max((len(counting(curve)) for curve in curves), default=0)
    held = min(most, HEADLINE_POINTS)
    return "evaluation point" if held < 2 else f"{held} evaluation points, averaged"


def stand_in_warning(grid: Grid) -> str:
    """What every table of stand-ins must say."""
    return CAUTION if grid.source == STAND_IN else ""


def with_source(title: str, grid: Grid) -> str:
    """A title that names its source."""
    return f"{title}: {grid.source}"


def dataset_columns(grid: Grid) -> list[str]:
    """Dataset columns, broken between task and level; stand-ins carry a dagger."""
    mark = "†" if grid.source == STAND_IN else ""
    return [DatasetId(d).short_name.replace("-", "\n", 1) + mark for d in grid.datasets]


def format_budget(row: Row) -> str:
    """Preset and outer steps; nothing for pairs that are not distilled."""
    if row.is_baseline:
        return "whole data"
    if not row.distilled:
        return MISSING
    return f"{row.preset}, {format_ranges(row.steps) if len(row.steps) > 1 else row.steps[0]} steps"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names), key=natural_sort_key)) or MISSING


def count_noun(amount: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{amount} {one if amount == 1 else many or one + 's'}"


def format_ranges(numbers: Sequence[int], dash: str = "–") -> str:
    """``0, 1, 2, 5`` as ``0–2,5``."""
    runs: list[list[int]] = []
    for value in numbers:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [f"{r[0]}{dash}{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs]
    return ",".join(texts) or MISSING
