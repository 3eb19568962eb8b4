"""Estimates of ``--dry-run``: operations per step, and times from earlier results."""

from dataclasses import replace

import pytest
from support.toy_suite import PLUGINS

from obdbench.distillation.settings import resolve_settings
from obdbench.execution import estimate as estimates
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import plan
from obdbench.execution.trial import run_trial
from obdbench.execution.trial_cost import EPISODE_SECONDS, count_episodes
from obdbench.experiments.spec import TrialSpec


def test_operations_of_a_published_step():
    """256 pairs, 100 inner steps and a 4-layer student of width 256 are some 62 GFLOP."""
    spec = TrialSpec(
        dataset="d4rl/hopper-medium-v2",
        objective="pbc",
        settings=resolve_settings("paper"),
        seeds=(0,),
    )
    assert estimates.count_operations(spec) == pytest.approx(62e9, rel=0.06)
    five = spec.model_copy(update={"seeds": (0, 1, 2, 3, 4)})
    assert estimates.count_operations(five) == 5 * estimates.count_operations(spec)
    # 10 policies, 3 episodes, all evaluation points
    points = len(spec.settings.evaluation_steps)
    assert count_episodes(spec) == 30 * points


def test_infinite_width_steps_are_cheap():
    exact = TrialSpec(dataset="embedded/hopper-medium-v1", objective="pbc", seeds=(0,))
    cheap = exact.model_copy(
        update={"settings": exact.settings.model_copy(update={"kernel_share": 1})}
    )
    assert estimates.count_operations(cheap) < estimates.count_operations(exact) / 20
    half = exact.model_copy(
        update={"settings": exact.settings.model_copy(update={"kernel_share": 0.5})}
    )
    mean = (estimates.count_operations(cheap) + estimates.count_operations(exact)) / 2
    assert estimates.count_operations(half) == pytest.approx(mean)


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
    assert "earlier results" in str(known)
    done = estimates.estimate_run(replace(prepared, results={result.key: result}))
    assert str(done) == "Nothing to do."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 seconds"), (100, "1.7 minutes"), (7200, "2.0 hours"), (200_000, "2.3 days")],
)
def test_durations_have_a_fitting_unit(seconds, text):
    assert estimates.format_duration(seconds) == text
