"""Suites and presets: what they mean, and how they refuse."""

import numpy as np
import pytest

from obdbench.distillation.settings import resolve_settings
from obdbench.errors import InvalidSettingError, ObdError, UnknownNameError
from obdbench.evaluation.protocol import make_protocol
from obdbench.experiments import presets
from obdbench.experiments.presets import Preset
from obdbench.experiments.spec import canonical_json, label_trials
from obdbench.experiments.suite import (
    Suite,
    list_suites,
    load_suite,
    parse_seeds,
)

SHIPPED = [
    *("smoke", "quick", "embedded", "embedded-protocols", "embedded-size", "d4rl", "minari"),
    "paper",
]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_suites_resolve(name):
    specs = load_suite(name).specs()
    assert len({spec.key for spec in specs}) == len(specs)
    expected = {
        "smoke": 2,
        "quick": 14,
        "embedded": 9 * 14 * 2,  # seeds 0 to 2, and 3 and 4
        "embedded-protocols": 9 * 5 * 3,
        "embedded-size": 3 * 2 * 5,
        "d4rl": 9 * 14,
        "minari": 6 * 5,
    }
    sizes = make_protocol("size").sizes
    others = len(load_suite(name).protocols) - 1
    expected["paper"] = 9 * 13 * (others + len(sizes))  # size distills for each size
    assert len(specs) == expected[name]
    if name == "paper":
        assert {spec.preset for spec in specs} == {"paper"}
        assert {spec.settings.noise for spec in specs} == {"published"}
        assert {spec.settings.pairs for spec in specs} == {256, *sizes}


def test_suite_names_start_with_the_small_ones():
    assert list_suites()[:2] == ["smoke", "quick"]


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


MINE = """
datasets = ["embedded/hopper-medium-v1"]
objectives = ["av_pbc", { name = "sdw", params = { tau = 0.2 } }]
protocols = [{ name = "size", params = { sizes = [8, 16] } }, "ensemble"]
seeds = "0-1,7"
[settings]
steps = 10
"""


def test_own_suite(tmp_path):
    suite = load_suite(write(tmp_path, MINE))
    specs = suite.specs()
    assert suite.name == "mine"
    assert {spec.objective for spec in specs} == {"av-pbc", "sdw"}  # the alias is resolved
    assert {spec.seeds for spec in specs} == {(0, 1, 7)}
    assert [s.settings.pairs for s in specs if s.protocol == "size"] == [8, 16, 8, 16]
    # size needs further distillations, ensemble shares the default one
    assert len({spec.distill_key for spec in specs}) == 6
    assert all(spec.settings.steps == 10 for spec in specs)


def test_select_narrows_keeps_params_and_replaces(tmp_path):
    suite = load_suite(write(tmp_path, MINE)).select(
        objectives=["sdw", "pbc"], seeds=[3], preset="tiny", settings={"batch": 9}
    )
    specs = [spec for spec in suite.specs() if spec.protocol == "ensemble"]
    assert [(s.objective, s.objective_params) for s in specs] == [
        ("sdw", {"tau": 0.2}),
        ("pbc", {}),
    ]
    assert specs[0].seeds == (3,)
    assert (specs[0].settings.batch, specs[0].settings.steps, specs[0].settings.pairs) == (
        9,
        4,  # of the preset, which replaces the suite's setting
        16,
    )
    other = load_suite(write(tmp_path, MINE)).select(settings={"batch": 9})
    assert {spec.settings.steps for spec in other.specs()} == {10}


def test_a_chosen_preset_keeps_its_steps():
    for preset in ("fast", "thorough", "exact", "paper"):
        (spec,) = load_suite("quick").select(objectives=["pbc"], preset=preset).specs()
        assert spec.settings == resolve_settings(preset)
    (spec,) = load_suite("quick").select(objectives=["pbc"]).specs()
    assert spec.settings.steps == 220


def test_select_takes_the_names_of_rows():
    suite = load_suite("quick").select(
        objectives=["random", "kmeans++ (labels=teacher)", "sdr (labels=data, lambda_1=0.2)"]
    )
    assert [(spec.objective, spec.objective_params) for spec in suite.specs()] == [
        ("random", {}),
        ("kmeans++", {"labels": "teacher"}),
        ("sdr", {"lambda_1": 0.2}),  # without the default label
    ]
    with pytest.raises(UnknownNameError, match="labels"):
        load_suite("quick").select(objectives=["random (label=teacher)"]).specs()


def test_a_parameter_stated_at_its_default_value_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    presets.save_preset(Preset(name="tuned", base="tiny", objectives={"av-pbc": {"beta": 0.05}}))
    quick = load_suite("quick")

    def params(objective, preset=None):
        (spec,) = quick.select(objectives=[objective], preset=preset).specs()
        return spec.objective_params

    assert params("av-pbc (beta=0.02)", "tuned") == {}
    assert params("av-pbc", "tuned") == {"beta": 0.05}
    taught = {"name": "sdr", "params": {"labels": "teacher"}}
    controls = Suite(name="s", datasets=quick.datasets, objectives=[taught], seeds=[0])
    (spec,) = controls.select(objectives=["sdr (labels=data)"]).specs()
    assert spec.objective_params == {}
    suite = load_suite("embedded")
    stated = suite.select(objectives=["pbc"], protocols=["default (policies=10, episodes=3)"])
    assert {canonical_json(spec.protocol_params) for spec in stated.specs()} == {"{}"}


def test_parameters_in_a_preset_are_found_by_alias_and_a_misspelled_name_is_reported(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    (tmp_path / "mine.toml").write_text(
        'base = "tiny"\n[objectives.av_pbc]\nbeta = 0.3\n[objectives.av-pcb]\nbeta = 0.4\n'
    )
    (spec,) = load_suite("quick").select(objectives=["av-pbc"], preset="mine").specs()
    assert spec.objective_params == {"beta": 0.3}
    assert "'av-pcb'" in caplog.text


def test_an_integer_for_a_decimal_number_makes_the_same_trial():
    suite = load_suite("quick").select(
        objectives=["q-pbc (value_weight=4)", "q-pbc (value_weight=4.0)"],
        protocols=["default (lr=1)", "default (lr=1.0)"],
    )
    (spec,) = suite.specs()
    assert spec.objective_params == {"value_weight": 4.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("objectives =", "objectivs ="), "Did you mean objectives"),
        (("av_pbc", "av-pcb"), "Did you mean av-pbc"),
        (("hopper-medium-v1", "hoper-medium-v1"), "Did you mean embedded/hopper-medium-v1"),
        (('"ensemble"', '"ensembel"'), "Did you mean ensemble"),
        (("tau", "tua"), "Did you mean tau"),
        (("steps = 10", "steps = -1"), "steps"),
        (("steps = 10", "stepz = 1"), "Did you mean steps"),
        (('"0-1,7"', '"4-1"'), "smaller seed first"),
        (('"0-1,7"', "[1, 1]"), "distinct"),
        (('"0-1,7"', f"[{10**18}]"), "18 digits"),
        (("[settings]", "[settings"), "cannot be read"),
        (('["embedded/hopper-medium-v1"]', "[]"), "no trials"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path, change, message):
    text = MINE.replace(*change)
    assert text != MINE
    with pytest.raises(ObdError) as caught:
        load_suite(write(tmp_path, text)).specs()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_suite_and_missing_file():
    with pytest.raises(UnknownNameError, match="Did you mean quick"):
        load_suite("qiuck")
    with pytest.raises(InvalidSettingError, match="no suite file"):
        load_suite("nowhere.toml")


def test_seeds_are_divided_among_trials():
    suite = load_suite("smoke").select(objectives=["pbc"], seeds=[0, 1, 2, 5, 7])
    assert {spec.seeds for spec in suite.specs()} == {(0, 1, 2, 5, 7)}
    divided = suite.model_copy(update={"seeds_per_trial": 2})
    combinations = len(suite.specs())
    groups = [spec.seeds for spec in divided.specs()]
    assert groups == [(0, 1), (2, 5), (7,)] * combinations


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-2", (0, 1, 2)), ("4", (4,)), ("0,2,5-6", (0, 2, 5, 6)), ("1,1", (1,))]
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-", "-1", "0-99999999999", "5-2"])
def test_bad_seeds(text):
    with pytest.raises(InvalidSettingError):
        parse_seeds(text)


def test_preset_file_round_trips_and_reaches_suites(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path / "presets"))
    preset = Preset(
        name="mine",
        base="tiny",
        summary='a "quoted" line',
        settings={"outer_lr": 0.02, "schedule": "constant"},
        objectives={"av-pbc": {"beta": 0.5}},
        provenance={"criterion": "offline", "trials": 3},
    )
    presets.save_preset(preset)
    assert presets.load_preset("mine") == preset
    assert presets.list_presets()[-1] == "mine"
    suite = Suite(
        name="s",
        preset="mine",
        datasets=("embedded/hopper-medium-v1",),
        objectives=["pbc", "av-pbc", {"name": "av-pbc", "params": {"beta": 0.1}}],
    )
    specs = suite.specs()
    assert [spec.objective_params for spec in specs] == [{}, {"beta": 0.5}, {"beta": 0.1}]
    assert specs[0].settings.outer_lr == 0.02
    assert specs[0].settings.pairs == 16


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    presets.save_preset(Preset(name="mine", settings={"outer_lr": np.float64(0.02)}))
    assert presets.load_preset("mine").settings == {"outer_lr": 0.02}


def test_a_saved_preset_can_be_read_whatever_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    text = "".join(map(chr, range(0x100)))
    preset = Preset(name="mine", summary=text, objectives={'a"b': {"c": text}})
    presets.save_preset(preset)
    assert presets.load_preset("mine") == preset


def test_bad_presets(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    with pytest.raises(UnknownNameError, match="Did you mean fast"):
        presets.load_preset("fasst")
    with pytest.raises(InvalidSettingError, match="not a valid preset name"):
        presets.save_preset(Preset(name="../up"))
    with pytest.raises(InvalidSettingError, match="not a valid preset name"):
        presets.save_preset(Preset(name="paper"))
    (tmp_path / "odd.toml").write_text("[settings]\nouter_lrr = 1\n")
    with pytest.raises(UnknownNameError, match="Did you mean outer_lr"):
        presets.load_preset("odd")


def test_labels_tell_every_trial_apart(tmp_path):
    text = (
        'datasets = ["embedded/hopper-medium-v1"]\n'
        'objectives = ["sdw", { name = "sdw", params = { base = "pbc" } }]\n'
        'protocols = ["default", { name = "size", params = { sizes = [8, 16] } },\n'
        '  { name = "ensemble", params = { policies = 5 } },\n'
        '  { name = "ensemble", params = { policies = 7, steps = 50 } }]\n'
    )
    specs = load_suite(write(tmp_path, text)).specs()
    named = [name.removeprefix("embedded/hopper-medium-v1 ") for name in label_trials(specs)]
    assert len(set(named)) == len(specs) == 10
    assert {"sdw default", "sdw (base=pbc) default", "sdw size 8", "sdw size 16"} <= set(named)
    assert "sdw ensemble (policies=5)" in named
    twins = [specs[0], specs[0].model_copy(update={"preset": "own", "code": {"dataset": "abc"}})]
    assert label_trials(twins) == [
        f"{label_trials(specs)[0]} (preset={p})" for p in ("fast", "own")
    ]
    steps = specs[0].settings.model_copy(update={"steps": 7})
    twins[1] = specs[0].model_copy(update={"settings": steps})
    assert label_trials(twins)[1].endswith("sdw default (steps=7)")


def test_selected_pairs_depend_on_no_setting_of_the_outer_loop():
    def keys(preset, objective, **settings):
        suite = load_suite("smoke").select(objectives=[objective], preset=preset, settings=settings)
        return {spec.key for spec in suite.specs()}

    selected = keys("fast", "random", pairs=64)
    assert selected == keys("exact", "random", pairs=64, smoothing=0.5, steps=7)
    assert selected == keys("fast", "random", pairs=64, init="kmeans++", init_labels="teacher")
    assert selected.isdisjoint(keys("fast", "random", pairs=32))
    assert keys("fast", "dbc", pairs=64).isdisjoint(keys("fast", "dbc", pairs=64, smoothing=0.5))


def test_a_parameter_at_its_default_makes_the_same_trial() -> None:
    suite = load_suite("embedded")
    plain, stated, other = (
        suite.select(objectives=[name]).specs()
        for name in ("av-pbc", "av-pbc (beta=0.02)", "av-pbc (beta=1.0)")
    )
    assert [spec.key for spec in plain] == [spec.key for spec in stated]
    assert not {spec.key for spec in plain} & {spec.key for spec in other}
