"""The progress display: at most 80 columns, live and as a log, with correct counts."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from obdbench.execution.events import Event, StepThrottle
from obdbench.execution.progress import (
    ProgressDisplay,
    TrialProgress,
    describe_trial,
    format_clock,
    label_trial,
    truncate,
)
from obdbench.experiments.spec import TrialSpec


def trial(number, protocol="default"):
    return TrialSpec(
        dataset="embedded/halfcheetah-medium-expert-v1",
        objective="av-pbc",
        protocol=protocol,
        seeds=(number,),
    )


def run_display(terminal, events, specs, width=80, height=12):
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=width, height=height, color_system=None
    )
    with ProgressDisplay("quick", specs, console, interval=0.0) as display:
        for event in events:
            display.on_event(event)
            display.refresh()
    return display, out.getvalue()


def trial_events(specs):
    for spec in specs:
        yield Event("start", spec.key, steps=300)
        yield Event(
            "step", spec.key, step=150, steps=300, loss=0.012345678, steps_per_second=3.14159
        )
        yield Event("score", spec.key, step=150, score=41.23456)
        yield Event("ok", spec.key, score=45.6)


SPECS = [trial(n, "cross-architecture") for n in range(40)]


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_keep_within_80_columns(terminal):
    _, text = run_display(terminal, list(trial_events(SPECS)), SPECS)
    lines = [line for chunk in text.split("\n") for line in chunk.split("\r")]
    from re import sub

    plain = [sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
    assert max(map(len, plain)) <= 80
    assert any(
        "150/300" in line and "loss 0.0123" in line and "last point 41.2" in line for line in plain
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_name_keeps_the_score_visible(terminal):
    spec = trial(0, "cross-architecture").model_copy(
        update={"objective_params": {"sample_teacher": True, "weight_normalization": "mean-one"}}
    )
    _, text = run_display(terminal, list(trial_events([spec])), [spec])
    done = next(line for line in text.splitlines() if "done  " in line)
    assert "score 45.6" in done
    assert len(done[done.index("done  ") :].split("\x1b")[0].rstrip()) <= 80


def test_after_the_last_step_a_trial_is_scored():
    last = Event("step", step=299, steps=300)
    progress = TrialProgress(SPECS[0], 0.0, last, remaining_seconds=65.0)
    assert "scoring" not in describe_trial(progress)
    assert "ETA 1:05" in describe_trial(progress)
    progress.last = replace(last, step=300)
    assert "scoring ETA 1:05" in describe_trial(progress)


def test_a_log_has_no_control_characters():
    _, text = run_display(False, list(trial_events(SPECS[:3])), SPECS[:3])
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.splitlines()[0] == "quick: 3 trials"
    assert "3/3 trials" in text.splitlines()[-2]
    assert text.splitlines()[-1].startswith("time: 0:00 elapsed")


def test_a_terminal_keeps_within_its_height():
    events = [Event("start", spec.key, steps=300) for spec in SPECS]
    display, _ = run_display(True, events, SPECS, height=12)
    assert len(display.draw().renderables) <= 12


def test_counts_failures_once_and_best():
    a, b, c = SPECS[:3]
    events = [
        Event("ok", a.key, score=10.0),
        Event("ok", a.key, score=10.0),
        Event("ok", b.key, score=20.0),
        Event("failed", c.key, message="why\nnot"),
        Event("failed", "unknown-key"),
    ]
    display, text = run_display(False, events, [a, b, c])
    assert display.finished == {a.key: "ok", b.key: "ok", c.key: "failed"}
    assert display.best is not None
    assert display.best[0] == 20.0
    assert text.count("done ") == 2
    assert "3/3 trials · 1 failed" in text
    assert display.remaining_time.share_done() == 1.0


def test_a_trial_with_synsets_of_an_earlier_run_is_shown_as_scoring():
    a = SPECS[0]
    events = [Event("start", a.key)]
    assert "preparing 0:00" in run_display(False, events, [a])[1]
    events.append(Event("scoring", a.key, step=300))
    assert "scoring 0:00\n" in run_display(False, events, [a])[1].split("time:")[0]


def test_a_finished_trial_has_one_line_with_its_times():
    a, b = SPECS[:2]
    events = [
        Event("start", a.key),
        Event("score", a.key, score=45.6, seconds=0.0),
        Event("ok", a.key, score=45.6),
        Event("failed", b.key, message="why"),
    ]
    _, text = run_display(False, events, [a, b])
    lines = [line for line in text.splitlines() if line.startswith(("done", "FAILED"))]
    assert lines == [
        "done     1/2 halfcheetah-m-e av-pbc cross-a… · score 45.6 · 0:00 (scoring 0:00)",
        "FAILED   2/2 halfcheetah-m-e-v1 av-pbc cross-architecture · why",
    ]


def test_the_end_states_the_time_of_distilling_and_of_scoring():
    a = SPECS[0]
    display, _ = run_display(False, [Event("start", a.key)], [a])
    display.running[a.key].started -= 100.0
    display.on_event(Event("score", a.key, score=1.0, seconds=40.0))
    display.on_event(Event("ok", a.key, score=1.0))
    assert display.time_line().endswith("distilling 1:00, scoring 0:40")


def test_a_run_ends_no_earlier_than_its_running_trials():
    a, b = SPECS[:2]
    display, _ = run_display(False, [Event("ok", a.key), Event("start", b.key, steps=300)], [a, b])
    display.on_event(Event("step", b.key, step=10, steps=300, steps_per_second=0.01))
    remaining = display.running[b.key].remaining_seconds
    assert remaining > 29_000
    assert f"ETA {format_clock(remaining)}" in display.summary_line()


def test_a_restart_is_shown_and_counts_nothing():
    a = SPECS[0]
    events = [Event("start", a.key), Event("restart", a.key, message="killed")]
    display, text = run_display(False, events, [a])
    assert display.running == {}
    assert display.finished == {}
    assert "restart" in text
    assert "killed" in text


def test_describe_and_label():
    display, _ = run_display(False, [Event("start", SPECS[0].key, steps=3)], SPECS[:1])
    assert "preparing" in describe_trial(display.running[SPECS[0].key])
    assert label_trial(trial(0)) == "halfcheetah-m-e-v1 av-pbc"
    with_params = trial(0).model_copy(update={"objective_params": {"beta": 0.5}})
    assert label_trial(with_params) == "halfcheetah-m-e-v1 av-pbc (beta=0.5)"
    assert [format_clock(s) for s in (5, 65, 3700)] == ["0:05", "1:05", "1:01:40"]
    assert truncate("a" * 90, 80) == "a" * 79 + "…"


def test_throttle_drops_steps_between_the_first_and_the_last_only():
    received = []
    throttle = StepThrottle(received.append, 1e9)
    for number in range(5):
        throttle(Event("step", "k", step=number, steps=4))
        throttle(Event("score", "k", step=number))
    scores = [("score", number) for number in range(5)]
    expected = [("step", 0), *scores[:4], ("step", 4), scores[4]]
    assert [(e.kind, e.step) for e in received] == expected


def test_missed_variance_of_students_is_shown():
    last = Event("step", step=150, steps=300, missed_variance=0.346)
    progress = TrialProgress(SPECS[0], 0.0, last)
    assert "missed 35%" in describe_trial(progress)
    progress.last = replace(last, missed_variance=1e30)
    assert "missed >999%" in describe_trial(progress)
    assert len(describe_trial(progress)) <= 80
