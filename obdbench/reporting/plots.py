"""Plots of a leaderboard: PNG and SVG, the same bytes from the same results.

Colours are Okabe and Ito's, told apart under every common colour blindness, and every line has its
own dash and marker besides, so that a grey print can be read. Matplotlib is imported when drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from obdbench.datasets.identifier import DatasetId
from obdbench.reporting import statistics as stats
from obdbench.reporting.captions import STAND_IN
from obdbench.reporting.grid import OBJECTIVES, Grid, Row
from obdbench.reporting.table import format_number
from obdbench.results.headline import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES: tuple[tuple[str, Any, str], ...] = (
    ("#595959", (0, (5, 2)), "s"),
    ("#E69F00", (0, (3, 1, 1, 1)), "^"),
    ("#56B4E9", (0, (6, 1)), "D"),
    ("#0072B2", "-", "o"),
    ("#D55E00", (0, (1, 1)), "v"),
    ("#009E73", (0, (4, 1, 1, 1, 1, 1)), "P"),
    ("#CC79A7", (0, (8, 2)), "X"),
    ("#000000", (0, (2, 2)), "*"),
)
RC = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "svg.hashsalt": "obdbench",
    "text.parse_math": False,
    "figure.dpi": 100,
}
WIDTH = 7.0
SCORE = "normalized return"

Draw = Callable[["Figure", Grid], None]


def list_plots(grids: Sequence[Grid], suite: str) -> list[tuple[str, str, str]]:
    """File name (without ending), title and source of every plot that these results make."""
    return [(_stem(suite, g, kind), title, g.source) for kind, title, _, g in _plan(grids)]


def draw_plots(grids: Sequence[Grid], suite: str, folder: Path) -> list[Path]:
    """Draw every plot twice, as PNG and as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, title, draw, grid in _plan(grids):
        with rc_context(RC):
            figure = Figure(figsize=(WIDTH, WIDTH / 2), layout="constrained")
            draw(figure, grid)
            figure.suptitle(title, fontsize=10)
            for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                path = folder / f"{_stem(suite, grid, kind)}.{ending}"
                figure.savefig(path, dpi=160, metadata=metadata)
                written.append(path)
    return written


def _plan(grids: Sequence[Grid]) -> list[tuple[str, str, Draw, Grid]]:
    plan: list[tuple[str, str, Draw, Grid]] = []
    with_curves = {g.source for g in grids if g.protocol == "convergence" and _has_curves(g)}
    for grid in grids:
        where = f"{grid.source}, stand-ins for D4RL" if grid.source == STAND_IN else grid.source
        if _has_curves(grid) and (
            grid.protocol == "convergence"
            or (grid.protocol == "default" and grid.source not in with_curves)
        ):
            title = f"Score against outer steps: {where} (band: ± one standard deviation)"
            plan.append(("convergence", title, convergence, grid))
        if grid.protocol == "default":
            if len(_ranked(grid)) > 1:
                title = f"Performance profile: {where} (band: 95% interval)"
                plan.append(("profile", title, performance_profile, grid))
            if len(grid.datasets) > 1 and any(row.n_scores for row in grid.rows):
                plan.append(("heatmap", f"Mean score: {where}", heat_map, grid))
        if grid.protocol == "size" and any(row.n_scores for row in grid.rows):
            title = f"Score against size: {where} (band: ± one standard deviation)"
            plan.append(("size", title, size_curve, grid))
    return plan


def convergence(figure: Figure, grid: Grid) -> None:
    """Score against outer steps, one panel a dataset; what has one point is a level line."""
    rows = [row for row in grid.rows if not row.is_baseline and row.n_scores]
    for axes, dataset in _panels(figure, grid.datasets):
        for row, (colour, dashes, marker) in _styled(rows):
            cell = row.cells.get(dataset)
            steps, scores = _matrix(list(cell.curves.values()) if cell is not None else [])
            if not steps:
                continue
            mean = scores.mean(axis=0)
            if len(steps) == 1:
                axes.axhline(float(mean[0]), color=colour, linestyle=dashes, label=row.label)
                continue
            _band(axes, steps, mean, scores, colour)
            axes.plot(
                steps, mean, color=colour, linestyle=dashes, marker=marker, ms=3.5, label=row.label
            )
    _finish(figure, "outer steps")


def size_curve(figure: Figure, grid: Grid) -> None:
    """Score against the number of pairs."""
    series: dict[str, list[Row]] = {}
    for row in grid.rows:
        series.setdefault(row.identity, []).append(row)
    firsts = [rows[0] for rows in series.values()]
    sizes = sorted({int(row.arm) for row in grid.rows})
    for axes, dataset in _panels(figure, grid.datasets):
        for first, (colour, dashes, marker) in _styled(firsts):
            points = {
                int(row.arm): stats.mean_std(row.cells[dataset].scores)
                for row in series[first.identity]
                if dataset in row.cells and row.cells[dataset].scores
            }
            pairs = sorted(points)
            mean = np.array([points[n][0] for n in pairs])
            spread = np.array([points[n][1] or 0.0 for n in pairs])
            axes.fill_between(pairs, mean - spread, mean + spread, color=colour, alpha=0.18, lw=0)
            axes.plot(
                pairs, mean, color=colour, linestyle=dashes, marker=marker, ms=4, label=first.label
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
    _finish(figure, "pairs")


def performance_profile(figure: Figure, grid: Grid) -> None:
    """Share of runs above each score, over all datasets; complete rows alone."""
    rows = _ranked(grid)
    top = max(max(map(max, row.scores_by_dataset)) for row in rows)
    thresholds = np.linspace(0.0, 1.05 * max(top, 1.0), 201)
    axes = figure.add_subplot()
    for row, (colour, dashes, _) in _styled(rows):
        statistic = stats.performance_profile(thresholds)
        shares = statistic(stats.as_arrays(row.scores_by_dataset))
        if all(len(group) > 1 for group in row.scores_by_dataset):
            low, high = np.percentile(
                stats.bootstrap_replicates(statistic, [row.scores_by_dataset]), [2.5, 97.5], axis=-1
            )
            axes.fill_between(thresholds, low, high, color=colour, alpha=0.18, lw=0)
        axes.plot(thresholds, shares, color=colour, linestyle=dashes, lw=1.8, label=row.label)
    axes.set(xlabel=f"{SCORE} τ", ylabel="share of runs above τ", ylim=(-0.02, 1.02))
    _legend(figure)


def heat_map(figure: Figure, grid: Grid) -> None:
    """Objective by dataset, each cell with its mean."""
    rows = [row for row in grid.sorted_rows() if row.n_scores]
    means = np.full((len(rows), len(grid.datasets)), np.nan)
    for i, row in enumerate(rows):
        for j, dataset in enumerate(grid.datasets):
            if dataset in row.cells and row.cells[dataset].scores:
                means[i, j] = stats.mean_std(row.cells[dataset].scores)[0]
    figure.set_size_inches(WIDTH, 1.6 + 0.32 * len(rows))
    axes = figure.add_subplot()
    axes.grid(visible=False)
    high = max(float(np.nanmax(means)), 1.0)
    image = axes.imshow(means, cmap="cividis", aspect="auto", vmin=0.0, vmax=high)
    for (i, j), mean in np.ndenumerate(means):
        known = not math.isnan(mean)
        text = format_number(float(mean) if known else None)
        colour = "white" if known and mean < 0.55 * high else "black"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(
        range(len(grid.datasets)),
        [DatasetId(d).short_name.replace("-", "\n", 1) for d in grid.datasets],
    )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.tick_params(length=0, labelsize=8)
    figure.colorbar(image, ax=axes, label=SCORE)


def _stem(suite: str, grid: Grid, kind: str) -> str:
    return f"{suite}-{kind}" if grid.source == suite else f"{suite}-{grid.source}-{kind}"


def _ranked(grid: Grid) -> list[Row]:
    return [row for row in grid.rows if row.complete and not row.is_baseline]


def _has_curves(grid: Grid) -> bool:
    cells = (cell for row in grid.rows if not row.is_baseline for cell in row.cells.values())
    return any(len(curve) > 1 for cell in cells for curve in cell.curves.values())


def _styled(rows: Sequence[Row]) -> list[tuple[Row, tuple[str, Any, str]]]:
    """Known objectives keep their style on every page; others take what follows."""
    styled, extra = [], len(OBJECTIVES)
    for row in rows:
        if row.label in OBJECTIVES:
            place = OBJECTIVES.index(row.label)
        else:
            place, extra = extra, extra + 1
        styled.append((row, STYLES[place % len(STYLES)]))
    return styled


def _matrix(curves: Sequence[Curve]) -> tuple[list[int], np.ndarray[Any, np.dtype[np.float64]]]:
    """Scores by seed and step, over the steps that all seeds share."""
    held = [dict(curve) for curve in curves]
    steps = sorted(set.intersection(*(set(curve) for curve in held))) if held else []
    return steps, np.array([[curve[step] for step in steps] for curve in held])


def _band(axes: Axes, steps: list[int], mean: Any, scores: Any, colour: str) -> None:
    if len(scores) > 1:
        spread = scores.std(axis=0, ddof=1)
        axes.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.18, lw=0)


def _panels(figure: Figure, datasets: Sequence[str]) -> list[tuple[Axes, str]]:
    columns = min(3, len(datasets))
    lines = math.ceil(len(datasets) / columns)
    figure.set_size_inches(WIDTH, 1.0 + (3.2 if lines == 1 else 2.1 * lines))
    panels = []
    for place, dataset in enumerate(datasets):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.set_title(DatasetId(dataset).short_name)
        panels.append((axes, dataset))
    return panels


def _finish(figure: Figure, label: str) -> None:
    for axes in figure.axes:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_xlabel(label)
    figure.supylabel(SCORE, fontsize=9)
    _legend(figure)


def _legend(figure: Figure) -> None:
    """One legend below all panels."""
    named = {}
    for axes in figure.axes:
        named.update(dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True)))
    longest = max(map(len, named), default=0)
    columns = max(1, min(len(named), 5 if longest < 16 else 2))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns)
