"""The remaining time of a run counts each distillation once, and the scoring of every trial."""

import pytest

from obdbench.execution.events import Event
from obdbench.execution.remaining_time import RemainingTime
from obdbench.execution.trial_cost import (
    EPISODE_SECONDS,
    UNIT_SECONDS,
    count_episodes,
    count_points,
    distillation_cost,
)
from obdbench.experiments.spec import TrialSpec


def make_spec(objective="pbc", protocol="default"):
    return TrialSpec(
        dataset="embedded/hopper-medium-v1", objective=objective, protocol=protocol, seeds=(0, 1)
    )


def test_before_any_event_the_times_are_those_of_published_results():
    spec = make_spec()
    remaining = RemainingTime([spec])
    expected = UNIT_SECONDS * distillation_cost(spec) + EPISODE_SECONDS * count_episodes(spec)
    assert remaining.trial_seconds(spec) == pytest.approx(expected)
    assert remaining.share_done() == 0.0


def test_after_the_last_step_the_scoring_remains():
    spec = make_spec()
    remaining = RemainingTime([spec])
    for step in (0, 420):
        remaining.on_event(Event("step", spec.key, step=step, steps=420, steps_per_second=2.0))
    assert remaining.trial_seconds(spec) == pytest.approx(EPISODE_SECONDS * count_episodes(spec))
    assert 0.0 < remaining.share_done() < 1.0


def test_times_follow_from_the_events_of_the_run():
    spec = make_spec()
    remaining = RemainingTime([spec])
    for step in (0, 100):
        remaining.on_event(Event("step", spec.key, step=step, steps=400, steps_per_second=4.0))
    remaining.on_event(Event("score", spec.key, step=0, seconds=30.0))
    points = count_points(spec)
    assert remaining.trial_seconds(spec) == pytest.approx(75.0 + 30.0 * (points - 1))
    total = 100.0 + 30.0 * points
    assert remaining.share_done() == pytest.approx((25.0 + 30.0) / total)


def test_trials_of_one_distillation_count_it_once():
    first, second = make_spec(), make_spec(protocol="ensemble")
    assert first.distill_key == second.distill_key
    remaining = RemainingTime([first, second])
    remaining.on_event(Event("ok", first.key))
    episodes = count_episodes(second)
    assert remaining.trial_seconds(second) == pytest.approx(EPISODE_SECONDS * episodes)
    remaining.on_event(Event("failed", second.key))
    assert remaining.share_done() == 1.0


def test_selected_pairs_have_only_the_cost_of_scoring():
    spec = make_spec("random")
    remaining = RemainingTime([spec])
    remaining.on_event(Event("score", spec.key, step=0, seconds=3.0))
    assert distillation_cost(spec) == 0.0
    assert remaining.share_done() == 1.0


def test_a_finished_distillation_has_only_the_cost_of_scoring():
    spec = make_spec(protocol="ensemble")
    remaining = RemainingTime([spec], finished={spec.distill_key})
    assert remaining.trial_seconds(spec) == pytest.approx(EPISODE_SECONDS * count_episodes(spec))
    assert remaining.share_done() == 0.0


def test_steps_of_an_earlier_process_are_no_work_of_the_run():
    spec = make_spec()
    remaining = RemainingTime([spec])
    remaining.on_event(Event("step", spec.key, step=301, steps=400, steps_per_second=4.0))
    scoring = EPISODE_SECONDS * count_episodes(spec)
    assert remaining.share_done() == pytest.approx(0.25 / (25.0 + scoring))
    remaining.on_event(Event("step", spec.key, step=400, steps=400, steps_per_second=4.0))
    assert remaining.share_done() == pytest.approx(25.0 / (25.0 + scoring))
    remaining.on_event(Event("ok", spec.key))
    assert remaining.share_done() == 1.0
