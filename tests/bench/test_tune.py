"""Tuning: the search space, the offline criterion, and the preset that comes out."""

import math

import numpy as np
import pytest

from obdbench.bench import presets, tune
from obdbench.bench.suite import Suite
from obdbench.errors import InvalidSettingError, ObdError

SETTINGS = {
    "pairs": 16,
    "inner_steps": 8,
    "steps": 6,
    "batch": 64,
    "architecture": "mlp2",
    "evaluate_at": [0.0, 0.5, 1.0],
}


def search(**changes):
    content = {
        "objective": "dbc",
        "datasets": ("toy/hopper-toy-v0",),
        "space": tune.parse_space(["outer_lr=0.001:0.1", "schedule=cosine,constant"]),
        "trials": 6,
        "preset": "tiny",
        "settings": SETTINGS,
    }
    return tune.Search(**{**content, **changes})


def test_space_is_parsed():
    interval, names = tune.parse_space(["outer_lr=0.001:0.1", "schedule=cosine,constant"])
    assert (interval.low, interval.high, interval.values) == (0.001, 0.1, ())
    assert names.values == ("cosine", "constant")
    for bad in ("outer_lr", "outer_lr=", "outer_lr=2:1", "outer_lr=a:b", "=1:2"):
        with pytest.raises(InvalidSettingError, match="is no range"):
            tune.parse_space([bad])


def test_draws_are_log_uniform_within_bounds():
    rng = np.random.default_rng(0)
    (interval,) = tune.parse_space(["outer_lr=0.001:0.1"])
    values = np.array([interval.draw(rng) for _ in range(2000)])
    assert values.min() >= 0.001
    assert values.max() <= 0.1
    assert abs(np.log10(values).mean() + 2.0) < 0.05  # the middle of the decades
    (linear,) = tune.parse_space(["x=-1:1"])
    assert abs(np.mean([linear.draw(rng) for _ in range(2000)])) < 0.06


def test_candidates_are_distinct_repeatable_and_start_with_the_base(plugin):
    first = tune.candidates(search())
    assert first == tune.candidates(search())
    assert first != tune.candidates(search(search_seed=1))
    assert first[0] == {}
    assert len(first) == len({str(one) for one in first}) == 6
    few = tune.candidates(search(space=tune.parse_space(["schedule=cosine,constant"])))
    assert few == [{}, {"schedule": "constant"}, {"schedule": "cosine"}] or few[1:] == [
        {"schedule": "cosine"},
        {"schedule": "constant"},
    ]
    with pytest.raises(ObdError, match="Did you mean outer_lr"):
        tune.candidates(search(space=tune.parse_space(["outer_rl=1:2"])))
    with pytest.raises(InvalidSettingError, match="outer_lr"):
        tune.candidates(search(space=tune.parse_space(["outer_lr=1000:2000"])))


def test_parameters_of_the_objective_and_settings_are_told_apart():
    one = tune.Candidate.of(search(objective="av-pbc"), {"beta": 0.5, "outer_lr": 0.2})
    assert one.params == {"beta": 0.5}
    assert one.settings.outer_lr == 0.2
    assert one.settings.steps == 6


def test_held_out_states_are_not_distilled_from(plugin):
    from obdbench.data.dataset import load_dataset

    whole = load_dataset("toy/hopper-toy-v0")
    kept, held = tune.split(whole)
    assert (len(kept), len(held)) == (270, 30)
    rows = {row.tobytes() for row in kept.observations}
    assert not any(row.tobytes() in rows for row in held.observations)
    again = tune.split(whole)
    assert again[1].checksum == held.checksum


def test_the_offline_criterion_falls_while_distilling_and_repeats(plugin):
    measured = list(tune.measure(search(), {"outer_lr": 0.05}))
    assert [one.step for one in measured] == [0, 3, 6]
    assert measured[-1].criterion < measured[0].criterion
    assert list(tune.measure(search(), {"outer_lr": 0.05})) == measured
    assert all(math.isfinite(one.criterion) for one in measured)


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
            next(tune.measure(search(objective="scaled"), {"scale": scale})).criterion
            for scale in (1.0, 1e-6)
        ]
    finally:
        objectives.unregister("scaled")
    assert values[0] == values[1]


@pytest.mark.slow
def test_tune_saves_a_preset_that_suites_can_use(plugin, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from bench_toys import TOY

    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    outcome = tune.tune(search(), name="mine", plugins=(TOY,), workers=2)
    assert len(outcome.tried) == 6
    assert outcome.tried[0].criterion == min(
        one.criterion for one in outcome.tried if one.step == outcome.tried[0].step
    )
    preset = presets.load("mine")
    assert preset == outcome.preset
    assert preset.provenance["criterion"] == "offline"
    assert "offline" in preset.summary
    suite = Suite(
        name="s", preset="mine", datasets=("toy/hopper-toy-v0",), objectives=["dbc"], seeds=(0,)
    )
    (spec,) = suite.specs()
    for name, value in outcome.tried[0].params.items():
        assert getattr(spec.settings, name) == value
    assert "mine" in outcome.text()
