"""Tuning: the search space, the offline criterion, and the preset that comes out."""

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import obdbench
from obdbench.datasets.dataset import episode_numbers
from obdbench.errors import InvalidSettingError, ObdError
from obdbench.evaluation.protocol import make_protocol
from obdbench.execution.config import ExecutionConfig
from obdbench.experiments import presets
from obdbench.experiments.suite import Suite
from obdbench.objectives.objective import make_objective
from obdbench.plugins import Plugin
from obdbench.tuning.api import tune_settings
from obdbench.tuning.criterion import (
    CandidateResult,
    make_criterion,
    measure_candidate,
    split_dataset,
)
from obdbench.tuning.search_space import (
    Candidate,
    SearchConfig,
    draw_candidates,
    parse_ranges,
)

SETTINGS = {
    "pairs": 16,
    "inner_steps": 8,
    "steps": 6,
    "batch": 64,
    "architecture": "mlp2",
    "evaluate_at": [0.0, 0.5, 1.0],
}


def make_search(**changes):
    content = {
        "objective": "dbc",
        "datasets": ("toy/hopper-toy-v0",),
        "ranges": parse_ranges(["outer_lr=0.001:0.1", "schedule=cosine,constant"]),
        "trials": 6,
        "preset": presets.load_preset("tiny"),
        "settings": SETTINGS,
    }
    return SearchConfig(**{**content, **changes})


def measure(search, draw, **limits):
    return measure_candidate(search, Candidate.from_draw(search, draw), **limits)


def test_ranges_are_parsed():
    interval, names = parse_ranges(["outer_lr=0.001:0.1", "schedule=cosine,constant"])
    assert (interval.low, interval.high, interval.values) == (0.001, 0.1, ())
    assert names.values == ("cosine", "constant")
    assert parse_ranges(["weight_normalization=none,mean-one"])[0].values == ("none", "mean-one")
    (documented,) = parse_ranges(["beta=0.01,0.1"])  # the example of the help text
    assert draw_candidates(make_search(objective="av-pbc", ranges=(documented,), trials=2))
    for bad in ("outer_lr", "outer_lr=", "outer_lr=2:1", "outer_lr=a:b", "=1:2", "x=1:inf"):
        with pytest.raises(InvalidSettingError, match="is not a range"):
            parse_ranges([bad])


def test_draws_from_a_positive_interval_are_log_uniform():
    rng = np.random.default_rng(0)
    (interval,) = parse_ranges(["outer_lr=0.001:0.1"])
    values = np.array([interval.draw_value(rng) for _ in range(2000)])
    assert values.min() >= 0.001
    assert values.max() <= 0.1
    assert abs(np.log10(values).mean() + 2.0) < 0.05  # the middle of the decades
    (pairs,) = parse_ranges(["pairs=32:256"])
    counts = {pairs.draw_value(rng) for _ in range(200)}
    assert all(isinstance(count, int) and 32 <= count <= 256 for count in counts)
    for name in ("width", "window"):  # integers or None
        (optional,) = parse_ranges([f"{name}=2:256"])
        assert type(optional.draw_value(rng)) is int
    (linear,) = parse_ranges(["x=-1:1"])
    assert abs(np.mean([linear.draw_value(rng) for _ in range(2000)])) < 0.06


def test_candidates_are_distinct_and_repeatable_and_the_first_changes_nothing(plugin):
    first = draw_candidates(make_search())
    assert first == draw_candidates(make_search())
    assert first != draw_candidates(make_search(search_seed=1))
    assert first[0].draw == first[0].objective_params == {}
    assert first[0].settings == make_search().preset.resolve(SETTINGS)
    assert len(first) == len({str(candidate.draw) for candidate in first}) == 6
    few = draw_candidates(make_search(ranges=parse_ranges(["schedule=cosine,constant"])))
    assert few[0].draw == {}
    assert sorted(candidate.draw["schedule"] for candidate in few[1:]) == ["constant", "cosine"]
    with pytest.raises(ObdError, match="Did you mean outer_lr"):
        draw_candidates(make_search(ranges=parse_ranges(["outer_rl=1:2"])))
    with pytest.raises(InvalidSettingError, match="outer_lr"):
        draw_candidates(make_search(ranges=parse_ranges(["outer_lr=1000:2000"])))


def test_draw_is_divided_into_settings_and_objective_parameters():
    candidate = Candidate.from_draw(make_search(objective="av-pbc"), {"beta": 0.5, "outer_lr": 0.2})
    assert candidate.objective_params == {"beta": 0.5}
    assert candidate.settings.outer_lr == 0.2
    assert candidate.settings.steps == 6


def test_held_out_states_are_not_distilled_from(plugin):
    from obdbench.datasets.loading import load_dataset

    dataset = load_dataset("toy/hopper-toy-v0")
    training, held_out = split_dataset(dataset)
    assert (len(training), len(held_out)) == (270, 30)
    rows = {row.tobytes() for row in training.observations}
    assert not any(row.tobytes() in rows for row in held_out.observations)
    again = split_dataset(dataset)
    assert again[1].checksum == held_out.checksum


def test_the_offline_criterion_falls_while_distilling_and_repeats(plugin):
    measured = list(measure(make_search(), {"outer_lr": 0.05}))
    assert [result.step for result in measured] == [0, 3, 6]
    assert measured[-1].criterion < measured[0].criterion
    assert list(measure(make_search(), {"outer_lr": 0.05})) == measured
    assert all(math.isfinite(result.criterion) for result in measured)


def test_the_reference_is_the_objective_with_default_parameters(plugin):
    """A parameter that only scales the loss must not win by scaling the criterion."""
    from obdbench.objectives.objective import Objective
    from obdbench.registry import objectives

    class Scaled(Objective):
        name = "scaled"
        uses_teacher = False

        def __init__(self, *, scale: float = 1.0):
            self.scale = scale

        def loss(self, actions, batch):
            return self.scale * (actions - batch.actions).square().mean(dim=(-2, -1))

    objectives.register("scaled", Scaled)
    try:
        values = [
            next(measure(make_search(objective="scaled"), {"scale": scale})).criterion
            for scale in (1.0, 1e-6)
        ]
    finally:
        objectives.unregister("scaled")
    assert values[0] == values[1]


def test_memory_of_a_candidate_is_limited(plugin):
    with pytest.raises(InvalidSettingError, match="memory"):
        next(measure(make_search(), {"outer_lr": 0.05}, memory=1))


def test_plugin_that_raises_is_reported_with_its_reason(tmp_path, monkeypatch):
    asha = pytest.importorskip("obdbench.tuning.asha")
    reports, search = [], make_search()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asha.tune, "report", reports.append)
    asha.report_candidate(
        {"candidate": 0, "working_folder": str(tmp_path)},
        search=search,
        execution=ExecutionConfig(plugins=(Plugin("broken.py", "raise OSError('no data')"),)),
        candidates=[Candidate.from_draw(search, {})],
    )
    (report,) = reports
    assert "no data" in report["error"]


@pytest.mark.slow
def test_tune_saves_a_preset_that_suites_can_use(plugin, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from support.toy_suite import PLUGINS

    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    outcome = tune_settings(
        make_search(),
        name="mine",
        config=ExecutionConfig(executor="ray", plugins=PLUGINS, workers=2),
    )
    assert len(outcome.candidates) == 6
    assert outcome.candidates[0].criterion == min(
        result.criterion
        for result in outcome.candidates
        if result.step == outcome.candidates[0].step
    )
    preset = presets.load_preset("mine")
    assert preset == outcome.preset
    assert preset.provenance["criterion"] == "offline"
    assert "offline" in preset.summary
    suite = Suite(
        name="s", preset="mine", datasets=("toy/hopper-toy-v0",), objectives=["dbc"], seeds=(0,)
    )
    (spec,) = suite.specs()
    for name, value in outcome.candidates[0].candidate.draw.items():
        assert getattr(spec.settings, name) == value
    assert "mine" in outcome.format_summary()


def test_value_that_a_preset_cannot_hold_is_refused_before_the_work(plugin):
    with pytest.raises(InvalidSettingError, match="None"):
        tune_settings(make_search(settings={**SETTINGS, "clip": None}), name="mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ("toy/hopper-toy-v0", "file:nowhere.npz#hopper")}, "nowhere.npz"),
        ({"objective": "pbc"}, "toy/hopper-toy-v0"),
        ({"ranges": parse_ranges(["pairs=16,301"])}, "301 pairs"),
    ],
)
def test_data_and_teachers_are_checked_before_ray_starts(plugin, monkeypatch, changes, message):
    asha = pytest.importorskip("obdbench.tuning.asha")
    monkeypatch.setattr(asha, "search_with_asha", lambda *_: pytest.fail("started"))
    with pytest.raises(ObdError, match=message):
        tune_settings(make_search(**changes), name="mine")


def test_existing_preset_is_not_overwritten(plugin, tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    (tmp_path / "mine.toml").write_text('base = "tiny"')
    with pytest.raises(InvalidSettingError, match=r"mine\.toml"):
        tune_settings(make_search(), name="mine")
    assert (tmp_path / "mine.toml").read_text() == 'base = "tiny"'


def test_workers_get_the_preset_from_the_driver(plugin, tmp_path, monkeypatch):
    """Where they run there may be no folder of presets."""
    asha = pytest.importorskip("obdbench.tuning.asha")
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "own.toml").write_text(
        'base = "tiny"\n[settings]\nouter_lr = 0.07\n[objectives.av-pbc]\nbeta = 0.3\n'
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def elsewhere(search, candidates, config):
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path / "elsewhere")
            _, (candidate, *_) = pickle.loads(pickle.dumps((search, candidates)))
        assert (candidate.settings.outer_lr, candidate.objective_params) == (0.07, {"beta": 0.3})
        return [CandidateResult(candidates[0], 1.0, 6)]

    monkeypatch.setattr(asha, "search_with_asha", elsewhere)
    search = make_search(
        preset=presets.load_preset("own"),
        objective="av-pbc",
        datasets=("embedded/hopper-medium-replay-v1",),
    )
    outcome = tune_settings(search, name="mine")
    assert outcome.preset.settings["outer_lr"] == 0.07
    assert presets.load_preset("mine").objectives == {"av-pbc": {"beta": 0.3}}


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ({"device": "cuda"}, 8),
        ({"device": "cuda", "workers": 3}, 3),
        ({"device": "cuda", "address": "auto"}, None),
        ({"address": "auto", "workers": 5}, 5),
    ],
)
def test_search_uses_as_many_workers_as_a_run(plugin, monkeypatch, options, workers):
    """Two per GPU, and the whole of a cluster."""
    asha = pytest.importorskip("obdbench.tuning.asha")
    configs = []
    monkeypatch.setattr("obdbench.tuning.api.check_device", lambda device: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr(
        asha, "search_with_asha", lambda *arguments: configs.append(arguments[-1]) or []
    )
    with pytest.raises(ObdError, match="No candidate"):
        tune_settings(make_search(), name="mine", config=ExecutionConfig(executor="ray", **options))
    assert configs[0].ray_workers() == workers


def test_candidates_are_ranked_by_the_share_of_their_own_points():
    """Few points are no reason to come last, many none to come first."""
    pytest.importorskip("ray")
    from obdbench.tuning.asha import percent_of_points, rank_candidates

    assert [percent_of_points(point, 7) for point in (1, 2, 7)] == [14, 28, 100]
    assert percent_of_points(3, 3) == 100
    reports = [
        {"criterion": 0.9, "percent": 100, "step": 420, "candidate": 0},
        {"criterion": 0.1, "percent": 29, "step": 210, "candidate": 1},
        {"criterion": 0.5, "percent": 100, "step": 20, "candidate": 2},
        {"criterion": float("inf"), "percent": 100, "step": 20, "candidate": 3},
        {"criterion": 0.0, "percent": 100, "step": 20, "candidate": 4, "error": "why"},
        None,
    ]
    drawn = [Candidate.from_draw(make_search(), {"steps": number}) for number in range(5)]
    ranked = rank_candidates(reports, drawn)
    assert [result.candidate.draw["steps"] for result in ranked] == [2, 0, 1, 3]


def test_device_is_checked_before_the_work(plugin, monkeypatch):
    pytest.importorskip("ray")

    def refuse(device):
        raise ObdError(f"no {device} here")

    monkeypatch.setattr("obdbench.tuning.api.check_device", refuse)
    with pytest.raises(ObdError, match="no cuda here"):
        tune_settings(
            make_search(), name="mine", config=ExecutionConfig(executor="ray", device="cuda")
        )


SUITE = """
preset = "mine"
datasets = ["toy/hopper-toy-v0"]
objectives = ["dbc"]
protocols = ["toy"]
seeds = [0]
"""


@pytest.mark.slow
def test_tune_from_the_command_line_and_its_preset_in_a_suite(tmp_path):
    """ASHA stops poor candidates early, nothing is left, and a suite names the outcome."""
    pytest.importorskip("ray")
    from support.processes import call_obdbench, list_processes, short_folder
    from support.toy_suite import TOY, write_hopper

    (tmp_path / "suite.toml").write_text(SUITE)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "own.toml").write_text('base = "tiny"')
    write_hopper(tmp_path / "hopper-mine.npz")
    sets = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    # the last candidates hardly move: ASHA sees it at the second point and stops them
    values = "outer_lr=0.05,0.03,0.02,0.01,0.0000001,0.0000002,0.0000003,0.0000004"
    with short_folder() as temporary:
        code, out, err = call_obdbench(
            *("tune", "dbc", "--dataset", "toy/hopper-toy-v0", "--plugin", TOY, "--param", values),
            *("--dataset", "file:hopper-mine.npz"),  # relative, as the folder of presets is
            *("--trials", "9", "--name", "mine", "--preset", "own", "--workers", "2", *sets),
            cwd=tmp_path,
            temporary=temporary,
        )
        assert code == 0, err
        assert list(temporary.iterdir()) == []
        assert [line for _, line in list_processes() if str(temporary) in line] == []
    lines = out.splitlines()
    assert "9" in lines[0]
    assert "'offline'" in lines[0]
    assert "outer_lr=0.05" in lines[1]
    assert "presets/mine.toml" in lines[-1]
    assert sum("step 6" in line for line in lines) < 9, "ASHA stopped nobody"
    assert len([line for line in err.splitlines() if line.startswith("tune: ")]) == 9
    assert "Traceback" not in err
    code, out, err = call_obdbench("run", "suite.toml", "--plugin", TOY, cwd=tmp_path)
    assert code == 0, err
    (path,) = tmp_path.glob("results/suite/*[0-9a-f].json")
    assert '"outer_lr":0.05' in path.read_text()


@pytest.mark.slow
def test_search_without_a_valid_candidate_reports_the_reason(tmp_path):
    pytest.importorskip("ray")
    from support.processes import call_obdbench
    from support.toy_suite import TOY

    code, _, err = call_obdbench(
        *("tune", "raises", "--dataset", "toy/hopper-toy-v0", "--plugin", TOY, "--trials", "2"),
        *("--param", "outer_lr=0.1,0.2", "--preset", "tiny", "--workers", "2"),
        cwd=tmp_path,
    )
    assert code == 2
    assert "tune: 2/2 failed (ZeroDivisionError: the reason of it), none yet" in err
    assert err.splitlines()[-1].startswith("obdbench: No candidate reached")
    assert "Traceback" not in err
    assert not (tmp_path / "presets").exists()


def test_whole_episodes_are_held_out_with_all_columns():
    dataset = obdbench.load_dataset("embedded/hopper-medium-replay-v1")
    training, held_out = split_dataset(dataset)
    assert len(training) + len(held_out) == len(dataset)
    assert 0 < len(held_out) <= 4096
    ends = held_out.terminals | held_out.timeouts
    assert ends[-1]
    assert episode_numbers(held_out)[-1] + 1 == ends.sum()
    assert held_out.next_observations is not None


@pytest.mark.parametrize("objective", ["pbc", "av-pbc", "q-pbc"])
def test_the_offline_criterion_of_the_teachers_own_actions_is_zero(objective, monkeypatch):
    """States, actions and action values of the criterion belong together."""
    name = "embedded/hopper-medium-v1"
    training, held_out = split_dataset(obdbench.load_dataset(name))
    teacher = obdbench.load_teacher(name)

    class Students:
        """Act as the teacher does, at states in the units of the dataset to distill."""

        def act(self, params, states):
            observations = states[0].numpy() * training.standardizer.scale
            actions = teacher.act(observations + training.standardizer.mean)
            return torch.from_numpy(actions).expand(len(states), -1, -1)

    search = make_search(objective=objective, datasets=(name,))
    settings = Candidate.from_draw(search, {"outer_lr": 0.05}).settings
    cloning = SimpleNamespace(architecture=Students())
    protocol = type(make_protocol("default", {}))
    monkeypatch.setattr(protocol, "default_cloning", lambda *_: cloning)
    monkeypatch.setattr("obdbench.evaluation.students.train_students", lambda *_: {})
    criterion = make_criterion(search, held_out, teacher, settings)
    point = SimpleNamespace(synsets=[SimpleNamespace(standardizer=training.standardizer)])
    assert criterion(point) == pytest.approx([0.0], abs=1e-5)


def test_datasets_do_not_share_an_objective(monkeypatch, plugin):
    made = []

    def make(*arguments):
        made.append(make_objective(*arguments))
        return made[-1]

    monkeypatch.setattr("obdbench.tuning.criterion.make_objective", make)
    monkeypatch.setattr("obdbench.tuning.criterion.make_criterion", lambda *_: lambda _: [0.0])
    search = make_search(datasets=("toy/hopper-toy-v0",) * 2)
    assert len(list(measure(search, {"outer_lr": 0.05}))) == 3
    assert len(made) == 2
