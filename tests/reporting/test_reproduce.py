"""The command in a table's head: true for the results at hand, and of use where they lie."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from obdbench.cli.options import parse_assignments
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import Suite, load_suite, parse_seeds
from obdbench.reporting.grid import Grid
from obdbench.reporting.grouping import build_grids
from obdbench.reporting.reproduce import command
from obdbench.reporting.suite_results import ResultEntry, SuiteResults, read_suite_results
from obdbench.results.record import Result

COMMITTED = Path(__file__).parents[2] / "leaderboards" / "results"
REST = "obdbench leaderboard --out remade --to remade"
NAMES = {"--objective": "objectives", "--dataset": "datasets", "--protocol": "protocols"}


def parsed(told: str) -> list[Suite]:
    """The suites that the runs of a command stand for."""
    *runs, last = told.split(" && ")
    assert last == REST
    suites = []
    for run in runs:
        program, verb, name, *options = shlex.split(run)
        assert (program, verb, *options[-3:]) == ("obdbench", "run", "--resume", "--out", "remade")
        asked: dict[str, Any] = {}
        sets = []
        for option, value in zip(options[:-3:2], options[1:-3:2], strict=True):
            if option in NAMES:
                asked.setdefault(NAMES[option], []).append(value)
            elif option == "--set":
                sets.append(value)
            elif option == "--seeds":
                asked["seeds"] = parse_seeds(value)
            else:
                asked[option.removeprefix("--")] = value
        suites.append(load_suite(name).select(**asked, settings=parse_assignments(sets)))
    return suites


def keys(told: str) -> set[str]:
    return {spec.key for suite in parsed(told) for spec in suite.specs()}


def the_grid(*specs: TrialSpec, suite: str = "quick") -> Grid:
    entries = []
    for spec in specs:
        record = Result(key=spec.key, suite=suite, spec=spec, status="ok")
        curves = {"default": dict.fromkeys(spec.seeds, ((0, 1.0),))}
        entries.append(ResultEntry(f"{spec.key}.json", record, curves))
    (part,) = build_grids(SuiteResults(suite, tuple(entries)))
    return part


def said(*specs: TrialSpec, suite: str = "quick") -> str:
    return command(the_grid(*specs, suite=suite), suite)


def quick(**changes: Any) -> list[TrialSpec]:
    return load_suite("quick").select(**changes).specs()


def altered(**changes: Any) -> TrialSpec:
    (spec,) = quick(objectives=["pbc"])
    return spec.model_copy(update=changes)


@pytest.mark.parametrize("suite", ["quick", "embedded", "recon"])
def test_committed_tables_tell_exactly_their_trials(suite):
    for part in build_grids(read_suite_results(COMMITTED / suite, strict=True)):
        rows = [row for row in part.rows if not row.is_baseline]
        assert keys(command(part, suite)) == {e.record.key for row in rows for e in row.entries}


@pytest.mark.parametrize(
    "changes",
    [
        {"objectives": ["pbc", "dbc"]},
        {"datasets": ["embedded/hopper-medium-v0", "embedded/walker2d-medium-v0"]},
        {"settings": {"steps": 7, "outer_lr": 0.5, "clip": 2.0, "evaluate_at": [0.0, 1.0]}},
        {"preset": "tiny", "settings": {"clip": None, "init": "kmeans++"}},
        {"seeds": [0, 2, 3]},
        {"protocols": ["ensemble"]},
        {"protocols": ["size"]},
    ],
    ids=str,
)
def test_whatever_differs_from_the_suite_is_said(changes):
    specs = quick(**changes)
    assert keys(said(*specs)) == {spec.key for spec in specs}


def test_trials_that_differ_among_themselves_are_told_apart():
    specs = [
        *quick(objectives=["pbc"], seeds=[0, 1]),
        *quick(objectives=["pbc"], seeds=[2], datasets=["embedded/walker2d-medium-v0"]),
        *quick(objectives=["dbc"], seeds=[2], settings={"steps": 9}),
    ]
    told = said(*specs)
    assert len(parsed(told)) == 3
    assert keys(told) == {spec.key for spec in specs}


def test_own_code_needs_its_plugin():
    told = said(altered(objective="my-objective", code={"objective": "0" * 16}))
    assert "--objective my-objective --plugin PLUGIN --seeds 0-2" in told
    assert "--plugin" not in said(*quick())


def test_a_suite_of_ones_own_is_a_file():
    assert said(altered(seeds=(0, 1)), altered(seeds=(2, 3, 4)), suite="mine").split(" && ") == [
        "obdbench run mine.toml --seeds 0-1 --resume --out remade",
        "obdbench run mine.toml --seeds 2-4 --resume --out remade",
        REST,
    ]


def test_a_preset_of_ones_own_speaks_for_its_settings():
    assert "--preset mine --seeds" in said(altered(preset="mine", objective_params={"beta": 1}))


@pytest.mark.parametrize(
    "changes",
    [
        {"objective_params": {"beta": 3.0}},
        {"protocol_params": {"policies": 3}},
        {"dataset": "file:a`b.npz#hopper"},
        {"dataset": "file:a.npz;rm -r x"},
        {"dataset": "$(id)"},
        {"objective": "--fresh"},
        {"objective": "a\nb"},
        {"objective": "a|b"},
    ],
    ids=str,
)
def test_what_no_call_says_or_none_should_say_is_left_out(changes):
    assert said(altered(**changes)) == ""


def test_names_with_spaces_are_quoted():
    told = said(altered(dataset="file:my data.npz#hopper"))
    assert "--dataset 'file:my data.npz#hopper'" in told


def test_comparisons_and_baselines_have_no_such_command():
    assert said(altered(), suite="compare") == ""
    assert said(altered(objective="behavior")) == ""
