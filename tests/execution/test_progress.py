"""The display: readable at 80 columns, live and as a log; never wrong about what it counts."""

import io

import pytest
from rich.console import Console

from obdbench.execution.events import Event, StepThrottle
from obdbench.execution.progress import Line, ProgressDisplay, clock, describe, label, shorten
from obdbench.experiments.spec import TrialSpec


def trial(number, protocol="default"):
    return TrialSpec(
        dataset="embedded/halfcheetah-medium-expert-v0",
        objective="av-pbc",
        protocol=protocol,
        seeds=(number,),
    )


def shown(terminal, events, specs, width=80, height=12):
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=width, height=height, color_system=None
    )
    with ProgressDisplay("quick", specs, console) as display:
        for event in events:
            display.on_event(event)
            display._drawn = -1e9  # every event is worth a drawing
            display.refresh()
    return display, out.getvalue()


def news(specs):
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
    _, text = shown(terminal, list(news(SPECS)), SPECS)
    lines = [line for chunk in text.split("\n") for line in chunk.split("\r")]
    from re import sub

    plain = [sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
    assert max(map(len, plain)) <= 80
    assert any(
        "150/300" in line and "loss 0.0123" in line and "last point 41.2" in line for line in plain
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_name_leaves_its_score_in_sight(terminal):
    spec = trial(0, "cross-architecture").model_copy(
        update={"objective_params": {"sample_teacher": True, "weight_normalization": "mean-one"}}
    )
    _, text = shown(terminal, list(news([spec])), [spec])
    done = next(line for line in text.splitlines() if "done  " in line)
    assert "score 45.6" in done
    assert len(done[done.index("done  ") :].split("\x1b")[0].rstrip()) <= 80


def test_after_the_last_step_a_trial_is_scored():
    line = Line(SPECS[0], 0.0, step=299, steps=300, rate=2.0)
    assert "ETA" in describe(line)
    line.step = 300
    assert "ETA" not in describe(line)
    assert "scoring" in describe(line)


def test_a_log_has_no_control_characters():
    _, text = shown(False, list(news(SPECS[:3])), SPECS[:3])
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.splitlines()[0] == "quick: 40 trials".replace("40", "3")
    assert "3/3 trials" in text.splitlines()[-1]


def test_a_terminal_keeps_within_its_height():
    events = [Event("start", spec.key, steps=300) for spec in SPECS]
    display, _ = shown(True, events, SPECS, height=12)
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
    display, text = shown(False, events, [a, b, c])
    assert display.finished == {a.key: "ok", b.key: "ok", c.key: "failed"}
    assert display.best is not None
    assert display.best[0] == 20.0
    assert text.count("done ") == 2
    assert "3/3 trials · 1 failed" in text
    assert display.share() == 1.0


def test_a_restart_is_said_and_counts_nothing():
    a = SPECS[0]
    events = [Event("start", a.key), Event("restart", a.key, message="killed")]
    display, text = shown(False, events, [a])
    assert display.running == {}
    assert display.finished == {}
    assert "again" in text
    assert "killed" in text


def test_describe_and_label():
    display, _ = shown(False, [Event("start", SPECS[0].key, steps=3)], SPECS[:1])
    assert "preparing" in describe(display.running[SPECS[0].key])
    assert label(trial(0)) == "halfcheetah-m-e-v0 av-pbc"
    held = trial(0).model_copy(update={"objective_params": {"beta": 0.5}})
    assert label(held) == "halfcheetah-m-e-v0 av-pbc (beta=0.5)"
    assert [clock(s) for s in (5, 65, 3700)] == ["0:05", "1:05", "1:01:40"]
    assert shorten("a" * 90, 80) == "a" * 79 + "…"


def test_throttle_drops_steps_only():
    got = []
    emit = StepThrottle(got.append, 1e9)
    for number in range(5):
        emit(Event("step", "k", step=number))
        emit(Event("score", "k", step=number))
    assert [(e.kind, e.step) for e in got] == [("step", 0), *(("score", n) for n in range(5))]
