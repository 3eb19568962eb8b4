"""Ctrl-C and SIGTERM, as a terminal and a scheduler send them to the whole group."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from support.processes import list_descendants, run_environment, short_folder, wait_until_ended
from support.toy_suite import TOY, comparable_files

pytestmark = pytest.mark.slow
SUITE = """
datasets = ["toy/hopper-toy-v0"]
objectives = [{ name = "student", params = { pause = 0.5 } }, "random"]
protocols = ["toy"]
seeds = [0, 1]
[settings]
pairs = 4
inner_steps = 2
steps = 40
batch = 8
architecture = "mlp2"
evaluate_at = [0.0, 0.5, 1.0]
"""


def restore_sigint():
    """Take SIGINT, even where these tests run in the background of a shell that ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.reliability(
    "fault",
    "Ctrl-C, and SIGTERM of a scheduler",
    injection="the signal to the whole process group once a result is there, with either executor",
    outcome="exit code 130, one line that states how to continue, no process and no temporary file "
    "left; `--resume` ends with the results of an undisturbed run, bit for bit",
)
@pytest.mark.parametrize("executor", ["local", "ray"])
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_cleanly_and_goes_on(tmp_path, executor, sign):
    if executor == "ray":
        pytest.importorskip("ray")
    (tmp_path / "toy.toml").write_text(SUITE)

    def start(out, *options):
        command = [sys.executable, "-m", "obdbench", "run", "toy.toml", "--plugin", TOY]
        return subprocess.Popen(
            [*command, "--executor", executor, "--out", str(out), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=run_environment(temporary),
            start_new_session=True,
            preexec_fn=restore_sigint,
        )

    with short_folder() as temporary:
        whole = start(tmp_path / "whole")
        assert "\n2 ok in" in whole.communicate(timeout=600)[0]
        process = start(tmp_path / "out")
        folder = tmp_path / "out" / "toy"
        deadline = time.monotonic() + 300
        while not list(folder.glob("synsets/*/0")) or not list(folder.glob("*[0-9a-f].json")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        below = [child for child, _ in list_descendants(process.pid)]
        os.killpg(process.pid, sign)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 130, err
        assert out.splitlines()[-1] == f"1 ok, 1 missing in {folder}"
        command = shlex.join(["obdbench", *process.args[3:], "--resume"])
        assert err.splitlines()[-1] == f"Interrupted; continue with: {command}"
        assert "Traceback" not in err
        assert wait_until_ended(below) == set()
        assert list(temporary.iterdir()) == []
        assert (folder / ".work").is_dir()
        again = start(tmp_path / "out", "--resume")
        assert "\n2 ok in" in again.communicate(timeout=600)[0]
        assert comparable_files(folder) == comparable_files(tmp_path / "whole" / "toy")
        assert not (folder / ".work").exists()
