"""The summary that a run prints."""

from __future__ import annotations

from dataclasses import replace

from support.result_entries import HOPPER

from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.rendering.terminal import render_terminal_table, summarize_results
from obdbench.reporting.tables.leaderboard_tables import GAIN_OVER_RANDOM
from obdbench.reporting.tables.table import Cell, Table
from obdbench.results.provenance import describe_environment
from obdbench.results.record import Point, Result


def summarize(*results: Result, missing: tuple[TrialSpec, ...] = ()) -> str:
    return summarize_results(results, [*(r.spec for r in results), *missing], "s")


def result(objective: str, scores: list[float], status: str = "ok") -> Result:
    seeds = tuple(range(len(scores)))
    spec = TrialSpec(objective=objective, dataset=HOPPER, seeds=seeds)
    points = [
        Point(
            seed=seed,
            step=0,
            arm="default",
            returns=[[score * 32.54572305 - 20.272305]],
            normalized_return=score,
        )
        for seed, score in zip(seeds, scores, strict=True)
    ]
    if status != "ok":
        return Result.unfinished(spec, "s", status, "no reason")
    return Result.model_validate(
        {
            "key": spec.key,
            "suite": "s",
            "spec": spec,
            "status": "ok",
            "points": points,
            "environment": describe_environment("Hopper-v4", "cpu", 1),
        }
    )


def test_a_row_per_method_with_average_interval_and_gain_over_random():
    text = summarize(result("random", [10.0, 12.0, 11.0]), result("pbc", [30.0, 33.0, 36.0]))
    assert "33.0" in text
    assert "11.0" in text
    assert "22.0" in text  # the gain
    assert max(map(len, text.splitlines())) <= 80


def test_numbers_are_not_wrapped_in_80_columns():
    columns = ("row", "average (95% interval)", GAIN_OVER_RANDOM, "gain over best selection (95%)")
    numbers = ("38.5 (24.3 to 46.4)", "33.8 (6.7 to 60.9)", "+10.1 (−23.9 to 44.2)")
    rows = [(Cell(name), *map(Cell, numbers)) for name in ("pbc", "bc-whole (batch=256, lr=0.001)")]
    table = Table("Summary", columns, tuple(rows))
    lines = render_terminal_table(table, GAIN_OVER_RANDOM).splitlines()
    assert max(map(len, lines)) <= 80
    complete = [line for line in lines if all(n in line for n in (numbers[0], numbers[2]))]
    assert len(complete) == len(rows)
    assert numbers[1] not in "\n".join(lines)
    narrow = replace(table, columns=columns[:3], rows=tuple(row[:3] for row in rows[:1]))
    assert numbers[1] in render_terminal_table(narrow, GAIN_OVER_RANDOM)


def test_an_empty_column_is_left_out_before_the_gain_over_random():
    wide = [-990.0, 60.0, 1110.0]
    text = summarize(result("random", [10.0, 12.0, 11.0]), result("pbc", wide))
    assert max(map(len, text.splitlines())) <= 80
    assert "selection" not in text
    assert text.count("(−2") == 2  # the intervals of the average and of the gain


def test_failed_trials_have_no_row_and_no_results_no_table():
    assert summarize(result("pbc", [1.0], "failed")) == ""


def test_a_row_without_all_of_its_trials_has_no_average():
    first = result("pbc", [30.0, 33.0, 36.0])
    second = first.spec.model_copy(update={"dataset": "d4rl/walker2d-medium-replay-v2"})
    assert "33.0" in summarize(first)
    assert "33.0" not in summarize(first, missing=(second,))
    failed = Result.unfinished(second, "s", "failed", "no reason")
    assert "33.0" not in summarize(first, failed)


def test_control_characters_and_markup_of_names_are_shown_as_text():
    text = summarize(result("[red]x\x1b[31m", [1.0, 2.0]))
    assert "\x1b" not in text
    assert "[red]x" in text
