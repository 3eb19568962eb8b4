"""Targets of the Makefile, with commands that only record how they are called."""

import shutil
import subprocess

import pytest
from support.paths import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.mark.parametrize(
    ("code", "commands"),
    [(0, ["run", "leaderboard"]), (1, ["run", "leaderboard"]), (2, ["run"]), (130, ["run"])],
)
def test_bench_makes_the_leaderboard_although_a_trial_failed(tmp_path, code, commands):
    calls, program = tmp_path / "calls", tmp_path / "bin" / "obdbench"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$1" >> {calls}\n[ "$1" != run ] || exit {code}\n')
    program.chmod(0o755)
    (tmp_path / ".installed").touch()
    made = subprocess.run(
        ["make", "bench", f"VENV={tmp_path}", "EXECUTOR=local", f"RESULTS={tmp_path / 'results'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert calls.read_text().split() == commands
    assert (made.returncode == 0) == (code == 0)
    assert code == 0 or f"Error {code}" in made.stderr
