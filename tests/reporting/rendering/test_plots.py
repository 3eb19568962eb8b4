"""Plots: the right ones, the same bytes twice, and nothing a file says can break them."""

from __future__ import annotations

import pytest
from support.result_entries import checked_entry, entry

from obdbench.distillation.settings import DistillSettings
from obdbench.reporting.grids.grid import OBJECTIVES
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import SuiteResults
from obdbench.reporting.rendering import plots

Figure = pytest.importorskip("matplotlib.figure").Figure


def test_plots_are_named_after_suite_source_and_kind(d4rl, quick):
    names = [plot.name for plot in plots.list_plots(build_grids(d4rl), "d4rl")]
    assert names == ["d4rl-convergence", "d4rl-profile", "d4rl-heatmap", "d4rl-size"]
    names = [plot.name for plot in plots.list_plots(build_grids(quick), "quick")]
    assert names == ["quick-embedded-convergence", "quick-embedded-profile"]


def test_drawing_is_repeatable(d4rl, tmp_path):
    parts = [part for part in build_grids(d4rl) if part.protocol == "size"]
    first = plots.draw_plots(parts, "d4rl", tmp_path / "a")
    second = plots.draw_plots(parts, "d4rl", tmp_path / "b")
    assert [path.name for path in first] == ["d4rl-size.png", "d4rl-size.svg"]
    for old, new in zip(first, second, strict=True):
        assert old.read_bytes() == new.read_bytes()
        assert old.stat().st_size > 5_000


def test_every_listed_plot_is_drawn(quick, tmp_path):
    announced = [plot.name for plot in plots.list_plots(build_grids(quick), "quick")]
    drawn = plots.draw_plots(build_grids(quick), "quick", tmp_path)
    assert [path.stem for path in drawn] == [name for name in announced for _ in range(2)]


def test_known_objectives_keep_their_style(d4rl, quick):
    def style(collection, objective):
        part = next(part for part in build_grids(collection) if part.protocol == "default")
        rows = [row for row in part.rows if not row.is_baseline]
        return next(s for row, s in plots.line_styles(rows) if row.label == objective)

    for objective in OBJECTIVES:
        assert style(d4rl, objective) == style(quick, objective)
    assert len({s[0] for s in plots.STYLES}) == len({s[2] for s in plots.STYLES}) == 8


def test_dash_and_marker_differ_wherever_color_does():
    assert len({str(dashes) for _, dashes, _ in plots.STYLES}) == len(plots.STYLES)


def test_many_rows_have_distinct_colors_and_dashes():
    styles = [plots.nth_style(index)[:2] for index in range(24)]
    assert len({str(style) for style in styles}) == 24
    assert [plots.nth_style(index) for index in range(8)] == list(plots.STYLES)


def test_labels_are_not_interpreted(tmp_path):
    entries = (
        entry("$\\frac{", {0: 1.0, 1: 2.0}),
        entry("_hidden", {0: 3.0, 1: 2.5}),
        entry("$\\frac{", {0: 1.0, 1: 2.0}, "d4rl/walker2d-medium-v2"),
        entry("_hidden", {0: 3.0, 1: 2.5}, "d4rl/walker2d-medium-v2"),
    )
    assert plots.draw_plots(build_grids(SuiteResults("s", entries)), "s", tmp_path)


def test_convergence_plot_shows_the_missed_variance(tmp_path):
    entries = (
        checked_entry("pbc", {0: [1.0, 0.2, 0.3], 1: [1.0, 0.4, None]}),
        checked_entry("dbc", {0: []}),
    )
    grids = build_grids(SuiteResults("s", entries))
    (plot,) = [plot for plot in plots.list_plots(grids, "s") if plot.name.endswith("convergence")]
    assert "missed variance" in plot.title
    figure = Figure()
    plot.draw(figure, plot.grid)
    scores, shares = figure.axes
    assert len(scores.lines) == 2
    unchecked, checked = (list(line.get_ydata()) for line in shares.lines)
    assert unchecked == []
    assert checked == pytest.approx([1.0, 0.3, 0.65])


def test_a_plot_with_many_rows_shows_the_best_row_of_each_objective():
    scores = {rate: {0: rate, 1: rate + 1.0} for rate in (10.0, 30.0, 20.0, 5.0)}
    entries = tuple(
        entry(objective, by_seed, start=1.0, settings=DistillSettings(outer_lr=rate))
        for objective in ("pbc", "dbc")
        for rate, by_seed in scores.items()
    )

    def labels(count):
        (grid,) = build_grids(
            SuiteResults("s", (*entries[:count], entry("random", {0: 0.5, 1: 1})))
        )
        found = [plot for plot in plots.list_plots([grid], "s") if plot.name.endswith("profile")]
        figure = Figure()
        found[0].draw(figure, grid)
        return found[0].title, {text.get_text() for text in figure.legends[0].get_texts()}

    title, shown = labels(len(entries))
    assert "best row of each objective" in title
    assert shown == {"random", "pbc (outer_lr=30.0)", "dbc (outer_lr=30.0)"}
    title, shown = labels(len(entries) - 1)
    assert "best row" not in title
    assert len(shown) == 8


def test_no_results_give_no_plots(tmp_path):
    assert plots.list_plots([], "s") == []
    assert plots.draw_plots([], "s", tmp_path / "none") == []
