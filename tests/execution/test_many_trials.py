"""Five hundred trivial trials: all done, readable, nothing left, memory in bounds."""

import os
import pty
import re
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from support.memory import ResourceWatch
from support.processes import list_processes, run_environment, short_folder, wait_until_ended
from support.toy_suite import TOY

pytestmark = pytest.mark.slow
TRIALS = int(os.environ.get("OBDBENCH_MANY_TRIALS", "500"))
SUITE = """
datasets = ["toy/hopper-toy-v0"]
objectives = [{objectives}]
protocols = ["toy"]
seeds = [0]
[settings]
pairs = 4
inner_steps = 2
steps = 1
batch = 8
architecture = "mlp2"
evaluate_at = [1.0]
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def command(tmp_path):
    names = (f'{{ name = "student", params = {{ pause = {n * 1e-9} }} }}' for n in range(TRIALS))
    (tmp_path / "many.toml").write_text(SUITE.format(objectives=", ".join(names)))
    return [sys.executable, "-m", "obdbench", "run", "many.toml", "--plugin", TOY]


def noted(where):
    return pytest.mark.reliability(
        "fault",
        f"{TRIALS} trivial trials, {where}",
        injection="a suite of toy trials from the command line, two workers",
        outcome="all done; no line over 80 columns, no process and no temporary file left",
    )


def finish(watch, temporary, folder, attempts):
    """What holds after either run."""
    assert len(watch.processor) > 2  # the driver and its workers at least
    assert wait_until_ended(watch.processor) == set()
    assert [line for _, line in list_processes() if str(temporary) in line] == []
    assert list(temporary.iterdir()) == []
    names = {path.name for path in folder.iterdir() if path.suffix != ".json"}
    assert names == {"synsets"}
    assert len(list(folder.glob("*.json"))) == TRIALS + 1
    assert watch.peak < 4 * 2**30
    attempts.outcome = (
        "all done; no line over 80 columns, no process and no temporary file left; "
        f"{watch.peak / 2**30:.1f} GiB at most, all processes together"
    )


@noted("Ray, output to a file")
def test_many_trials_with_ray_and_a_log(tmp_path, command, attempts):
    pytest.importorskip("ray")
    with short_folder() as temporary, (tmp_path / "log").open("w") as log, attempts:
        process = subprocess.Popen(
            [*command, "--executor", "ray", "--workers", "2"],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env=run_environment(temporary),
        )
        with ResourceWatch(process.pid) as watch:
            assert process.wait() == 0
        lines = (tmp_path / "log").read_text().splitlines()
        assert max(map(len, lines[:-1])) <= 80  # the last names the folder, at any length
        assert lines[-1] == f"{TRIALS} ok in {tmp_path / 'results' / 'many'}"
        assert sum(line.startswith("done") for line in lines) == TRIALS
        assert not any("\x1b" in line or "\r" in line for line in lines)
        finish(watch, temporary, tmp_path / "results" / "many", attempts)


@noted("local, on a terminal of 80 columns")
def test_many_trials_on_a_terminal(tmp_path, command, attempts):
    ours, theirs = pty.openpty()
    output = bytearray()

    def listen():
        with suppress(OSError):
            while chunk := os.read(ours, 65536):
                output.extend(chunk)

    with short_folder() as temporary, attempts:
        size = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}
        process = subprocess.Popen(
            [*command, "--workers", "2"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tmp_path,
            env={**run_environment(temporary), **size},
        )
        os.close(theirs)
        thread = threading.Thread(target=listen)
        thread.start()
        with ResourceWatch(process.pid) as watch:
            assert process.wait() == 0
        thread.join()
        os.close(ours)
        text = CONTROL.sub("", output.decode())
        lines = [part.rstrip() for line in text.split("\n") for part in line.split("\r")]
        lines = [line for line in lines if line]
        assert max(map(len, lines[:-2])) <= 80
        assert sum(line.startswith("done") for line in lines) == TRIALS
        assert any(re.match(rf"many: \d+/{TRIALS} trials · \d running", line) for line in lines)
        finish(watch, temporary, tmp_path / "results" / "many", attempts)
