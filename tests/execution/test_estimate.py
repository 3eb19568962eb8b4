"""Estimates of ``--dry-run``: cost of a distillation, and times from earlier results."""

from dataclasses import replace
from functools import partial

import pytest
from support.toy_suite import PLUGINS

from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.solvers.exact import Exact
from obdbench.evaluation.ensemble import Ensemble
from obdbench.execution import estimate as estimates
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import plan
from obdbench.execution.trial import run_trial
from obdbench.execution.trial_cost import EPISODE_SECONDS, count_episodes, distillation_cost
from obdbench.experiments.spec import TrialSpec
from obdbench.registry import protocols, solvers


def with_settings(**settings):
    spec = TrialSpec(dataset="embedded/hopper-medium-v1", objective="pbc", seeds=(0,))
    return spec.model_copy(update={"settings": resolve_settings("paper", settings)})


def test_a_solver_that_is_a_function_costs_as_much_as_exact_steps():
    solvers.register("mine", partial(Exact))
    try:
        assert distillation_cost(with_settings(solver="mine")) == distillation_cost(with_settings())
    finally:
        solvers.unregister("mine")


def test_the_cost_grows_with_seeds_steps_and_draws():
    cost = distillation_cost(with_settings())
    five = with_settings().model_copy(update={"seeds": (0, 1, 2, 3, 4)})
    assert distillation_cost(five) == 5 * cost
    assert distillation_cost(with_settings(steps=10_000)) == cost / 2
    assert distillation_cost(with_settings(draws=2)) == 2 * cost


def test_every_point_of_every_policy_is_scored():
    spec = with_settings()  # 10 policies, 3 episodes
    assert count_episodes(spec) == 30 * len(spec.settings.evaluation_steps)


def test_students_of_an_ensemble_share_their_episodes():
    class MyEnsemble(Ensemble):
        name = "my-ensemble"

    protocols.register("my-ensemble", MyEnsemble)
    try:
        costs = {
            name: count_episodes(with_settings().model_copy(update={"protocol": name}))
            for name in ("ensemble", "my-ensemble")
        }
    finally:
        protocols.unregister("my-ensemble")
    assert costs["my-ensemble"] == costs["ensemble"] == 10 * 5  # episodes and points


def test_infinite_width_steps_are_cheap():
    shares = (0.0, 0.5, 1.0)
    exact, half, cheap = (distillation_cost(with_settings(kernel_share=s)) for s in shares)
    assert cheap < exact / 20
    assert half == pytest.approx((cheap + exact) / 2)


def test_corrected_steps_cost_more_with_frequent_corrections():
    rare, frequent = (
        distillation_cost(with_settings(solver="corrected", exact_interval=interval))
        for interval in (10, 2)
    )
    assert rare < frequent < distillation_cost(with_settings())


def test_dataset_names_determine_the_task():
    names = {
        "minari/mujoco/halfcheetah/medium-v0": "halfcheetah",
        "embedded/hopper-medium-v1": "hopper",
        "file:/somewhere/data.hdf5": "walker2d",
    }
    for dataset, task in names.items():
        assert estimates.find_task(TrialSpec(dataset=dataset, objective="pbc")).name == task


def test_step_times_come_from_earlier_results(toy_suite, tmp_path):
    config = ExecutionConfig(out=tmp_path, existing="resume", workers=1, plugins=PLUGINS)
    suite = toy_suite("student")
    prepared = plan(suite, config)
    guess = estimates.estimate_run(prepared)
    assert (guess.trials, guess.measured) == (1, 0)
    assert "guess" in str(guess)
    prepared.store.prepare()
    result = run_trial(prepared.specs[0], prepared.store)
    longer = plan(suite.select(settings={"steps": 4000, "evaluate_at": [1.0]}), config)
    known = estimates.estimate_run(longer)
    assert known.measured == 1
    scoring = count_episodes(longer.specs[0]) * EPISODE_SECONDS
    steps, seconds = result.timing.curve[-1]
    assert known.seconds == pytest.approx(5 + 4000 * seconds / steps + scoring)
    assert "measured before" in str(known)
    other_machines = (
        replace(config, threads=2),
        replace(config, executor="ray", device="cuda", address="auto"),
    )
    for other in other_machines:
        assert estimates.estimate_run(replace(longer, config=other)).measured == 0
    done = estimates.estimate_run(replace(prepared, results={result.key: result}))
    assert str(done) == "Nothing to do."
    scoring_only = plan(suite.select(protocols=["ensemble"]), config)
    assert scoring_only.finished_distillations() == {result.spec.distill_key}
    assert estimates.estimate_run(scoring_only).seconds == pytest.approx(
        5 + count_episodes(scoring_only.specs[0]) * EPISODE_SECONDS
    )
    repeated = replace(scoring_only, config=replace(config, existing="fresh"))
    assert repeated.finished_distillations() == set()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 seconds"), (100, "1.7 minutes"), (7200, "2.0 hours"), (200_000, "2.3 days")],
)
def test_durations_have_a_fitting_unit(seconds, text):
    assert estimates.format_duration(seconds) == text
