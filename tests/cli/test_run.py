"""Which trials a comparison plans."""

from __future__ import annotations

import pytest

from obdbench.cli.run import group_by_settings
from obdbench.experiments.suite import Suite, load_suite


@pytest.mark.parametrize(
    ("rows", "planned"),
    [
        (["pbc", "random"], ["pbc", "random"]),
        (["pbc", "random (labels=teacher)"], ["pbc", "random"]),
        (["random", "random (labels=teacher)"], ["random", "random"]),
        (["random (pairs=16)", "random"], ["random", "random"]),
        (["sdr", "kmeans++"], ["sdr", "kmeans++"]),
    ],
)
def test_a_comparison_plans_one_trial_per_row(rows, planned):
    suite = load_suite("quick")
    parts = [part.specs() for part in group_by_settings(suite, rows, {})]
    specs = [spec for part in parts for spec in part]
    assert sorted(spec.objective for spec in specs) == sorted(planned)
    named = {"labels=teacher" in row for row in rows if row.startswith("random")}
    random = [spec for spec in specs if spec.objective == "random"]
    assert {"labels" in spec.objective_params for spec in random} == named


def test_a_name_alone_selects_the_row_without_parameters_if_there_is_one():
    suite = load_suite("quick").select(objectives=["random"])
    assert [spec.objective_params for spec in suite.specs()] == [{}]
    variants = [{"name": "sdw", "params": {"tau": tau}} for tau in (0.2, 0.3)]
    suite = Suite(name="mine", datasets=suite.datasets, objectives=[*variants, "pbc"])
    selected = suite.select(objectives=["sdw"]).specs()
    assert [spec.objective_params for spec in selected] == [{"tau": 0.2}, {"tau": 0.3}]


def test_a_row_may_name_a_preset():
    parts = group_by_settings(load_suite("quick"), ["pbc (preset=exact, pairs=16)", "pbc"], {})
    specs = [spec for part in parts for spec in part.specs()]
    assert {(spec.preset, spec.settings.pairs) for spec in specs} == {("fast", 256), ("exact", 16)}


def test_set_applies_to_rows_that_name_a_preset_but_not_against_their_own_settings():
    rows = ["pbc", "pbc (pairs=16)", "pbc (preset=exact)", "pbc (preset=exact, steps=20)"]
    parts = group_by_settings(load_suite("quick"), rows, {"steps": 10})
    specs = [spec for part in parts for spec in part.specs()]
    stated = [(spec.preset, spec.settings.pairs, spec.settings.steps) for spec in specs]
    assert stated == [("fast", 256, 10), ("fast", 16, 10), ("exact", 256, 10), ("exact", 256, 20)]
    assert {spec.settings.kernel_share for spec in specs if spec.preset == "exact"} == {0.0}


def test_set_of_a_comparison_means_the_same_trials_as_set_of_a_run():
    suite, settings = load_suite("quick"), {"steps": 10, "pairs": 16}
    ((compared,),) = (p.specs() for p in group_by_settings(suite, ["pbc (preset=exact)"], settings))
    (run,) = suite.select(objectives=["pbc"], preset="exact", settings=settings).specs()
    assert compared == run
