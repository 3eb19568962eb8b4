"""Plots of a leaderboard as PNG and SVG; equal results give equal bytes.

The colors are those of Okabe and Ito, which remain distinct under common color blindness. Every
line also has its own dash pattern and marker, so that gray prints are readable. Matplotlib is
imported when a plot is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from obdbench.datasets.identifier import DatasetId
from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.grid import OBJECTIVES, Grid, Row
from obdbench.reporting.tables.table import format_number
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
LEGEND_LINE = 0.19  # inches
MAX_LINES = len(STYLES)  # with more, a plot shows the best row of each objective
SCORE = "normalized return"
PLOT_KINDS = ("convergence", "profile", "heatmap", "size")  # last parts of file names

Draw = Callable[["Figure", Grid], None]


class Plot(NamedTuple):
    """A plot that the results allow: file name without suffix, title and grid."""

    name: str
    title: str
    draw: Draw
    grid: Grid


def draw_plots(grids: Sequence[Grid], suite: str, folder: Path) -> list[Path]:
    """Draw every plot as PNG and as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in list_plots(grids, suite):
        with rc_context(RC):
            figure = Figure(figsize=(WIDTH, WIDTH / 2), layout="constrained")
            plot.draw(figure, plot.grid)
            figure.suptitle(plot.title.replace(" (", "\n("), fontsize=10)
            for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                path = folder / f"{plot.name}.{suffix}"
                figure.savefig(path, dpi=160, metadata=metadata)
                written.append(path)
    return written


def list_plots(grids: Sequence[Grid], suite: str) -> list[Plot]:
    """Every plot that these results allow."""
    plots = []
    for grid in grids:
        prefix = suite if grid.source == suite else f"{suite}-{grid.source}"
        plots += [
            Plot(f"{prefix}-{kind}", title, draw, grid) for kind, title, draw in _plots_of(grid)
        ]
    return plots


def _plots_of(grid: Grid) -> Iterator[tuple[str, str, Draw]]:
    """Kind, title and function of every plot that the results of a grid allow."""
    source = grid.source
    has_scores = any(row.n_scores for row in grid.rows)
    if grid.protocol == "default" and _has_curves(grid):
        has_checks = any(c.missed_variance for row in grid.rows for c in row.cells.values())
        notes = ["band: ± one standard deviation"] + ["thin: missed variance"] * has_checks
        title = f"Score against outer steps: {source} ({_describe_lines(grid, *notes)})"
        yield "convergence", title, draw_convergence
    if grid.protocol == "default":
        if sum(row.complete for row in _plotted_rows(grid)) > 1:
            lines = _describe_lines(grid, "band: 95% interval")
            title = f"Performance profile: {source} ({lines})"
            yield "profile", title, draw_performance_profile
        if len(grid.datasets) > 1 and has_scores:
            yield "heatmap", f"Mean score: {source}", draw_heat_map
    if grid.protocol == "size" and has_scores:
        title = f"Score against size: {source} (band: ± one standard deviation)"
        yield "size", title, draw_size_curve


def draw_convergence(figure: Figure, grid: Grid) -> None:
    """Score against outer steps, one panel per dataset; a single point is a horizontal line.

    Thin lines and the axis on the right show the mean missed variance of checked students.
    """
    rows = [row for row in _plotted_rows(grid) if row.n_scores]
    for axes, dataset in _panels(figure, grid.datasets):
        for row, (color, dashes, marker) in line_styles(rows):
            cell = row.cells.get(dataset)
            steps, scores = _matrix(list(cell.curves.values()) if cell is not None else [])
            if not steps:
                continue
            mean = scores.mean(axis=0)
            if len(steps) == 1:
                axes.axhline(float(mean[0]), color=color, linestyle=dashes, label=row.label)
                continue
            _band(axes, steps, mean, scores, color)
            axes.plot(
                steps, mean, color=color, linestyle=dashes, marker=marker, ms=3.5, label=row.label
            )
        _draw_missed_variance(axes, rows, dataset)
    _finish(figure, "outer steps")


def _draw_missed_variance(axes: Axes, rows: Sequence[Row], dataset: str) -> None:
    curves = [
        (list(row.cells[dataset].missed_variance.values()), style)
        for row, style in line_styles(rows)
        if dataset in row.cells
    ]
    if not any(missed for missed, _ in curves):
        return
    right = axes.twinx()
    for missed, (color, dashes, _) in curves:
        steps, shares = _matrix(missed)
        mean = np.minimum(shares, 1.0).mean(axis=0) if steps else []
        right.plot(steps, mean, color=color, linestyle=dashes, lw=0.7)
    right.set(ylim=(0.0, 1.0), ylabel="missed variance")
    right.grid(visible=False)


def draw_size_curve(figure: Figure, grid: Grid) -> None:
    """Score against the number of pairs."""
    series: dict[str, list[Row]] = {}
    for row in grid.rows:
        series.setdefault(row.identity, []).append(row)
    firsts = [rows[0] for rows in series.values()]
    sizes = sorted({int(row.arm) for row in grid.rows})
    for axes, dataset in _panels(figure, grid.datasets):
        for first, (color, dashes, marker) in line_styles(firsts):
            points = {
                int(row.arm): stats.mean_std(row.cells[dataset].scores)
                for row in series[first.identity]
                if dataset in row.cells and row.cells[dataset].scores
            }
            pairs = sorted(points)
            mean = np.array([points[n][0] for n in pairs])
            spread = np.array([points[n][1] or 0.0 for n in pairs])
            axes.fill_between(pairs, mean - spread, mean + spread, color=color, alpha=0.18, lw=0)
            axes.plot(
                pairs, mean, color=color, linestyle=dashes, marker=marker, ms=4, label=first.label
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
    _finish(figure, "pairs")


def draw_performance_profile(figure: Figure, grid: Grid) -> None:
    """Share of runs above each score, over all datasets, for complete rows."""
    rows = [row for row in _plotted_rows(grid) if row.complete]
    top = max(max(map(max, row.scores_by_dataset)) for row in rows)
    thresholds = np.linspace(0.0, 1.05 * max(top, 1.0), 201)
    axes = figure.add_subplot()
    for row, (color, dashes, _) in line_styles(rows):
        statistic = stats.performance_profile(thresholds)
        shares = statistic(stats.as_arrays(row.scores_by_dataset))
        if all(len(group) > 1 for group in row.scores_by_dataset):
            low, high = np.percentile(
                stats.bootstrap_replicates(statistic, [row.scores_by_dataset]),
                stats.PERCENTILES,
                axis=-1,
            )
            axes.fill_between(thresholds, low, high, color=color, alpha=0.18, lw=0)
        axes.plot(thresholds, shares, color=color, linestyle=dashes, lw=1.8, label=row.label)
    axes.set(xlabel=f"{SCORE} τ", ylabel="share of runs above τ", ylim=(-0.02, 1.02))
    _legend(figure)


def draw_heat_map(figure: Figure, grid: Grid) -> None:
    """Mean score of each objective on each dataset."""
    rows = [row for row in grid.sorted_rows() if row.n_scores]
    by_dataset = [
        {d: stats.mean_std(cell.scores)[0] for d, cell in row.cells.items() if cell.scores}
        for row in rows
    ]
    means = pd.DataFrame(by_dataset, columns=list(grid.datasets)).to_numpy(dtype=np.float64)
    figure.set_size_inches(WIDTH, 1.6 + 0.32 * len(rows))
    axes = figure.add_subplot()
    axes.grid(visible=False)
    high = max(float(np.nanmax(means)), 1.0)
    image = axes.imshow(means, cmap="cividis", aspect="auto", vmin=0.0, vmax=high)
    for (i, j), mean in np.ndenumerate(means):
        has_score = not math.isnan(mean)
        text = format_number(float(mean) if has_score else None)
        color = "white" if has_score and mean < 0.55 * high else "black"
        axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(
        range(len(grid.datasets)),
        [DatasetId(d).short_name for d in grid.datasets],
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.tick_params(length=0, labelsize=8)
    figure.colorbar(image, ax=axes, label=SCORE)


def _plotted_rows(grid: Grid) -> list[Row]:
    """Distilled rows, random selection, and the best selection for each source of labels.

    Where they are more than ``MAX_LINES``, only the distilled row of every objective with the
    highest average.
    """
    distilled = [row for row in grid.rows if row.method == "distillation"]
    shown = [*distilled, *grid.leading_selections()]
    if len(shown) > MAX_LINES:
        shown = grid.leading_rows()
    return [row for row in grid.rows if row in shown]


def _describe_lines(grid: Grid, *notes: str) -> str:
    """Notes on the lines of a plot, for its title."""
    plotted = _plotted_rows(grid)
    partial = any(row.method == "distillation" and row not in plotted for row in grid.rows)
    return "; ".join(["best row of each objective"] * partial + list(notes))


def _has_curves(grid: Grid) -> bool:
    cells = (cell for row in grid.rows if not row.is_baseline for cell in row.cells.values())
    return any(len(curve) > 1 for cell in cells for curve in cell.curves.values())


def line_styles(rows: Sequence[Row]) -> list[tuple[Row, tuple[str, Any, str]]]:
    """Known objectives keep their style on every page; others take the following styles.

    Of several rows of an objective, the one without settings keeps the style, else the first.
    """
    keeps: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.label != row.objective):
        if row.objective in OBJECTIVES:
            keeps.setdefault(row.objective, row)
    styled, extra = [], len(OBJECTIVES)
    for row in rows:
        if keeps.get(row.objective) is row:
            index = OBJECTIVES.index(row.objective)
        else:
            index, extra = extra, extra + 1
        styled.append((row, nth_style(index)))
    return styled


def nth_style(index: int) -> tuple[str, Any, str]:
    """The styles in turn; each further turn combines the colors with other dashes and markers."""
    count = len(STYLES)
    color, _, _ = STYLES[index % count]
    _, dashes, marker = STYLES[(index + 3 * (index // count)) % count]
    return color, dashes, marker


def _matrix(curves: Sequence[Curve]) -> tuple[list[int], np.ndarray[Any, np.dtype[np.float64]]]:
    """Steps that all seeds share, and the scores by seed and step."""
    scores = pd.DataFrame(dict(curve) for curve in curves).dropna(axis=1).sort_index(axis=1)
    return [int(step) for step in scores.columns.to_list()], scores.to_numpy(dtype=np.float64)


def _band(axes: Axes, steps: list[int], mean: Any, scores: Any, color: str) -> None:
    if len(scores) > 1:
        spread = scores.std(axis=0, ddof=1)
        axes.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.18, lw=0)


def _panels(figure: Figure, datasets: Sequence[str]) -> list[tuple[Axes, str]]:
    columns = min(3, len(datasets))
    lines = math.ceil(len(datasets) / columns)
    figure.set_size_inches(WIDTH, 1.0 + (3.2 if lines == 1 else 2.1 * lines))
    panels = []
    for number, dataset in enumerate(datasets, start=1):
        axes = figure.add_subplot(lines, columns, number)
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
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LEGEND_LINE * math.ceil(len(named) / columns))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns)
