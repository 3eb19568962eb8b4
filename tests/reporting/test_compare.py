"""Comparisons: right numbers, and words that say no more than the numbers do."""

from __future__ import annotations

import re

import pytest
from support.result_entries import HOPPER, TWO, WALKER, entry

from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.errors import InvalidDataError, InvalidSettingError
from obdbench.experiments.suite import parse_row, split_row_settings
from obdbench.reporting.compare import (
    compare_as_text,
    compare_objectives,
    resolve_row_names,
)
from obdbench.reporting.grids.suite_results import ResultEntry, SuiteResults
from obdbench.results.record import Result


def compare_pair(*entries: ResultEntry, names: tuple[str, ...] = ("mine", "pbc")):
    (comparison,) = compare_objectives(SuiteResults("s", entries), names)
    return comparison


def test_higher_scores_are_better():
    result = compare_pair(
        entry("mine", {0: 30.0, 1: 31.0, 2: 32.0}), entry("pbc", {0: 20.0, 1: 21.5, 2: 21.5})
    )
    assert result.significant_sign == 1
    assert result.difference.estimate == pytest.approx(10.0)
    assert result.improvement.estimate == 1.0
    assert result.verdict.startswith("mine is better than pbc by 10.0 points (95% interval")
    assert "seeds 0–2" in result.verdict
    assert "on the same dataset is 1.00" in result.verdict


def test_the_reversed_comparison_has_the_opposite_sign():
    mine = entry("mine", {0: 30.0, 1: 31.0, 2: 32.0})
    theirs = entry("pbc", {0: 20.0, 1: 21.5, 2: 21.5})
    forward, back = compare_pair(mine, theirs), compare_pair(mine, theirs, names=("pbc", "mine"))
    assert back.significant_sign == -1
    assert back.difference.low == pytest.approx(-forward.difference.high)
    assert "worse" in back.verdict


def test_an_interval_around_zero_is_not_significant():
    result = compare_pair(entry("mine", {0: 30.0, 1: 10.0}), entry("pbc", {0: 20.0, 1: 19.0}))
    assert result.significant_sign == 0
    assert result.verdict.startswith("There is no significant difference between mine and pbc")


def test_one_common_seed_gives_no_interval():
    result = compare_pair(entry("mine", {0: 90.0}), entry("pbc", {0: 1.0}))
    assert result.significant_sign == 0
    assert "single common seed" in result.verdict


def test_equal_scores_are_equal():
    result = compare_pair(entry("mine", {0: 1.0}), entry("pbc", {0: 1.0}))
    assert result.verdict.startswith("mine equals pbc on 1 dataset, seed 0, but")


def test_the_verdict_names_the_datasets_with_a_single_seed():
    five = dict(enumerate([1.0, 2.0, 3.0, 4.0, 5.0]))
    mine, theirs = entry("mine", five), entry("pbc", five)
    result = compare_pair(
        mine, theirs, entry("mine", {0: 2.0}, WALKER), entry("pbc", {0: 1.0}, WALKER)
    )
    assert result.significant_sign == 0
    assert result.verdict.startswith(
        "mine is 0.5 points above pbc on 2 datasets, 1 to 5 common seeds, but a single common "
        "seed on walker2d-medium gives no interval: run at least three seeds."
    )
    pairs = [(name, {seed: 2.0}, data) for name in ("mine", "pbc") for seed, data in enumerate(TWO)]
    assert (
        "on 2 datasets, 1 common seed each, but a single common seed on each gives no interval"
        in compare_pair(*(entry(*pair) for pair in pairs)).verdict
    )


def test_only_common_seeds_count():
    result = compare_pair(
        entry("mine", {0: 1.0, 1: 2.0, 5: 99.0}), entry("pbc", {0: 1.0, 1: 2.0, 2: 50.0})
    )
    assert result.seeds == {HOPPER: (0, 1)}
    assert result.difference.estimate == 0.0


def test_datasets_without_common_seeds_are_omitted():
    entries = [
        entry("mine", {0: 1.0, 1: 2.0}),
        entry("pbc", {0: 1.0, 1: 2.5}),
        entry("mine", {0: 1.0}, WALKER),
        entry("pbc", {1: 1.0}, WALKER),
    ]
    assert list(compare_pair(*entries).seeds) == [HOPPER]


def test_nothing_in_common_is_an_error():
    entries = (entry("mine", {0: 1.0}), entry("pbc", {1: 1.0}))
    with pytest.raises(InvalidDataError, match="seed in common"):
        compare_objectives(SuiteResults("s", entries), ["mine", "pbc"])


def test_ambiguous_rows_must_be_named():
    entries = (
        entry("mine", {0: 1.0, 1: 2.0}, objective_params={"beta": 1}),
        entry("mine", {0: 3.0, 1: 4.0}, objective_params={"beta": 2}),
        entry("pbc", {0: 1.0, 1: 2.0}),
    )
    with pytest.raises(InvalidDataError, match=r"mine \(beta=1\), mine \(beta=2\)"):
        compare_pair(*entries)
    result = compare_pair(*entries, names=("mine (beta=2)", "pbc"))
    assert result.difference.estimate == pytest.approx(2.0)


def test_rows_of_solvers_are_compared():
    fast = DistillSettings(kernel_share=0.95)
    other = DistillSettings(solver="label-solving")
    entries = (
        entry("pbc", {0: 1.0, 1: 2.0}, settings=fast),
        entry("pbc", {0: 4.0, 1: 5.0}, settings=other),
    )
    for second in ("pbc", "pbc (solver=exact)", "pbc (kernel_share=0.95)"):
        result = compare_pair(*entries, names=("pbc (solver=label-solving)", second))
        assert result.difference.estimate == pytest.approx(3.0)
        assert result.first_scores == ((4.0, 5.0),)


def test_rows_of_two_presets_are_compared():
    entries = (
        entry("pbc", {0: 1.0, 1: 2.0}, settings=resolve_settings("fast")),
        entry("pbc", {0: 4.0, 1: 5.0}, settings=resolve_settings("exact"), preset="exact"),
    )
    result = compare_pair(*entries, names=("pbc (preset=exact)", "pbc"))
    assert result.first_scores == ((4.0, 5.0),)
    assert result.second_scores == ((1.0, 2.0),)


def test_rows_of_one_preset_with_other_settings_are_told_apart():
    smoothed = resolve_settings("thorough", {"state_source": "smoothed"})
    entries = (
        entry("dbc", {0: 0.0, 1: 1.0}, settings=resolve_settings("fast")),
        entry("pbc", {0: 1.0, 1: 2.0}, settings=resolve_settings("fast")),
        entry("pbc", {0: 4.0, 1: 5.0}, settings=resolve_settings("thorough"), preset="thorough"),
        entry("pbc", {0: 6.0, 1: 7.0}, settings=smoothed, preset="thorough"),
    )
    of_preset, of_source = "pbc (preset=thorough)", "pbc (preset=thorough, state_source=smoothed)"
    result = compare_pair(*entries, names=(of_source, of_preset))
    assert (result.first_scores, result.second_scores) == (((6.0, 7.0),), ((4.0, 5.0),))
    result = compare_pair(*entries, names=(of_preset, "pbc"))
    assert (result.first_scores, result.second_scores) == (((4.0, 5.0),), ((1.0, 2.0),))
    of_both = "pbc (preset=thorough, state_source=smoothed, steps=500)"  # no row has this label
    result = compare_pair(*entries, names=(of_both, "pbc"))
    assert (result.first_scores, result.second_scores) == (((6.0, 7.0),), ((1.0, 2.0),))


def test_arms_are_compared_in_natural_order():
    entries = [
        entry(name, {0: 1.0}, protocol="size", settings=DistillSettings(pairs=pairs))
        for name in ("mine", "pbc")
        for pairs in (256, 128, 16)
    ]
    comparisons = compare_objectives(SuiteResults("s", tuple(entries)), ["mine", "pbc"])
    assert [comparison.arm for comparison in comparisons] == ["16", "128", "256"]


def test_settings_in_the_name_of_a_row_are_separated():
    row = "sdw (base=pbc, solver=exact, steps=5)"
    assert split_row_settings(row) == ("sdw (base=pbc)", {"solver": "full", "steps": 5})
    assert split_row_settings("random (labels=teacher)") == ("random (labels=teacher)", {})
    assert split_row_settings("pbc (preset=exact)") == ("pbc", {"preset": "exact"})
    assert split_row_settings("pbc (clip=none)") == ("pbc", {"clip": None})
    row = "sdw (density_normalization=none)"
    assert split_row_settings(row) == (row, {})
    assert resolve_row_names([row, "pbc"])[0] == row


def test_aliases_are_resolved():
    entries = (
        entry("av-pbc", {0: 1.0, 1: 2.0}, objective_params={"beta": 1.0}),
        entry("av-pbc", {0: 3.0, 1: 4.0}, objective_params={"beta": 2.0}),
        entry("random", {0: 1.0, 1: 2.0}),
    )
    result = compare_pair(*entries, names=("avpbc (beta=2)", "random"))
    assert (result.first, result.second) == ("av-pbc (beta=2.0)", "random")
    assert resolve_row_names(["av_pbc", "random", "avpbc"]) == ["av-pbc", "random"]
    assert resolve_row_names([" av_pbc (beta=1)", "unknown (x=1)"]) == [
        "av-pbc (beta=1.0)",
        "unknown (x=1)",
    ]
    assert resolve_row_names(["av-pbc (beta=0.02)", "random (labels=data)"]) == ["av-pbc", "random"]
    assert resolve_row_names(["avpbc (steps=5, beta=0.10)", "random"])[0] == (
        "av-pbc (beta=0.1, steps=5)"
    )
    assert parse_row("av-pbc (beta=1)")[0] == "av-pbc"
    with pytest.raises(InvalidSettingError, match="two objectives"):
        compare_objectives(SuiteResults("s", entries), ["av_pbc", "avpbc"])


def test_the_markdown_contains_every_pair(d4rl):
    text = compare_as_text(d4rl, ["sdw", "random", "av-pbc"])
    assert text.count("**sdw against") == 2
    assert "\\begin{tabular}" not in text


def test_latex_is_balanced_and_escaped():
    entries = (
        entry("my_objective#1", {0: 1.0, 1: 2.0}),
        entry("pbc", {0: -1.0, 1: 2.5}),
        entry("my_objective#1", {0: 1.0, 1: 2.0}, WALKER),
        entry("pbc", {0: -1.0, 1: 2.5}, WALKER),
    )
    text = compare_as_text(SuiteResults("s", entries), ["my_objective#1", "pbc"], latex=True)
    latex = text[text.index("\\begin{tabular}") :]
    assert r"my\_objective\#1" in latex
    assert not re.search(r"(?<!\\)[#_%]", latex)
    body = [line for line in latex.splitlines() if line.endswith("\\\\")]
    assert {line.count(" & ") for line in body} == {4}
    assert latex.count("\\midrule") == 2
    assert latex.rstrip().endswith("\\end{tabular}")


def test_results_in_memory_can_be_compared(results_root):
    from obdbench.results.record import read_json

    paths = [p for p in (results_root / "quick").glob("*.json") if p.name != "manifest.json"]
    records = [read_json(Result, path) for path in paths]
    assert "sdw is better than dbc" in compare_as_text(records, ["sdw", "dbc"])
