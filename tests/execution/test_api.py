"""``obdbench.run``: own code by name, and runs that end early."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.processes import list_descendants, run_environment, wait_until_ended
from support.toy_suite import SETTINGS, TOY

import obdbench
from obdbench.cli.options import parse_assignments
from obdbench.errors import InvalidSettingError, ObdError
from obdbench.results.record import Manifest, read_json

SUITE = "\n".join(
    [
        'datasets = ["toy/hopper-toy-v0"]',
        'objectives = ["random"]',
        'protocols = ["toy"]',
        "seeds = [0]",
        "[settings]",
        *(f"{name} = {json.dumps(value)}" for name, value in SETTINGS.items()),
    ]
)
MINE = """
from obdbench import Objective

class {name}(Objective):
    name = "{name}"
    uses_teacher = False

    def loss(self, actions, batch):
        return (actions - batch.actions).square().mean((-2, -1))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(SUITE)
    return tmp_path


@pytest.mark.parametrize("single", [False, True])
def test_objectives_of_a_plugin_are_known_by_name(folder, single):
    name = f"mine{single}"
    (folder / "mine.py").write_text(MINE.format(name=name))
    if single:
        (result,) = obdbench.run(
            "toy.toml",
            objectives=name,
            protocols="default",
            plugins="mine.py",
            workers=1,
            loggers=[],
            datasets="embedded/hopper-medium-replay-v1",
            settings={"steps": 0},
        )
    else:
        (result,) = obdbench.run("toy.toml", objectives=[name], plugins=["mine.py", TOY], workers=1)
    assert (result.status, result.spec.objective) == ("ok", name)


def test_a_run_that_stops_at_the_first_failure_raises(folder):
    options = {"plugins": (TOY,), "workers": 1, "objectives": ["raises"]}
    with pytest.raises(ObdError, match="the reason of it") as caught:
        obdbench.run("toy.toml", fail_fast=True, **options)
    assert "\n" not in str(caught.value)
    (result,) = obdbench.run("toy.toml", **options)
    assert result.status == "failed"


SCRIPT = """
import signal, obdbench
signal.signal(signal.SIGINT, signal.default_int_handler)
results = obdbench.run("toy.toml", plugins=PLUGIN, workers=1, settings={"steps": 400})
print("it went on with", len(results))
"""


def test_ctrl_c_ends_the_script_that_called(folder):
    toml = SUITE.replace('"random"', '{ name = "student", params = { pause = 0.2 } }')
    (folder / "toy.toml").write_text(toml.replace("[1.0]", "[0.0, 1.0]"))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("PLUGIN", repr(TOY))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=run_environment(),
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("results/toy/synsets/*/0")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    below = [child for child, _ in list_descendants(process.pid)]
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode in (130, -signal.SIGINT)
    assert wait_until_ended(below) == set()


def test_seeds_may_be_text(folder):
    (result,) = obdbench.run("toy.toml", seeds="12", workers=1, loggers=[], plugins=TOY)
    assert result.spec.seeds == (12,)


def test_the_recorded_command_states_the_settings_of_the_call(folder):
    settings = {
        "steps": np.int64(2),
        "evaluate_at": np.array([0.0, 1.0]),
        "smoothing": np.float64(0.5),
        "clip": math.inf,
        "width": None,
        "schedule": "constant",
    }
    obdbench.run("toy.toml", settings=settings, workers=1, plugins=TOY)
    manifest = read_json(Manifest, folder / "results" / "toy" / "manifest.json")
    (words,) = manifest.commands.values()
    recorded = [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
    expected = {**settings, "steps": 2, "evaluate_at": [0.0, 1.0]}
    assert parse_assignments(recorded) == expected


def test_settings_without_a_text_are_refused(folder):
    with pytest.raises(InvalidSettingError):
        obdbench.run("toy.toml", settings={"steps": object()}, plugins=TOY)
