"""``kill -9`` of a worker or of the driver at random moments: after --resume nothing differs."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_toys import contents

ROOT = Path(__file__).parents[2]
MOMENTS = int(os.environ.get("OBDBENCH_KILL_MOMENTS", "20"))

pytestmark = pytest.mark.slow


def start(executor, out, log):
    arguments = ["run", "smoke", "--executor", executor, "--out", str(out), "--resume"]
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "obdbench", *arguments],
            stdout=file,
            stderr=file,
            cwd=log.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def descendants(pid):
    """Processes below one, with their command lines."""
    listing = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    rows = [(int(line.split()[0]), int(line.split()[1]), line) for line in listing]
    found, front = [], {pid}
    while front:
        below = [row for row in rows if row[1] in front]
        found += below
        front = {row[0] for row in below}
    return found


def workers_of(pid, executor):
    mark = "obdbench.bench.worker" if executor == "local" else "ray::"
    return [child for child, _, line in descendants(pid) if mark in line and "IDLE" not in line]


def gone(pids):
    """Wait until processes have ended; those that live on."""
    deadline = time.monotonic() + 30
    left = set(pids)
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if Path(f"/proc/{pid}").exists() and not zombie(pid)}
        time.sleep(0.1)
    return left


def zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_twenty_kills_change_nothing(tmp_path, executor):
    if executor == "ray":
        pytest.importorskip("ray")
    log = tmp_path / "log"
    began = time.monotonic()
    assert start(executor, tmp_path / "whole", log).wait() == 0, log.read_text()
    duration = time.monotonic() - began
    expected = contents(tmp_path / "whole" / "smoke")
    assert len(expected) > 10
    rng = random.Random(20)
    said = []
    for moment in range(MOMENTS):
        out = tmp_path / f"out{moment}"
        target, delay = rng.choice(["driver", "worker"]), rng.uniform(0.0, duration)
        process = start(executor, out, log)
        time.sleep(delay)
        candidates = workers_of(process.pid, executor)
        below = [child for child, _, _ in descendants(process.pid)]
        victim = rng.choice(candidates) if target == "worker" and candidates else process.pid
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            victim = None
        code = process.wait(timeout=300)
        kept = len(list(out.glob("smoke/*.json")))
        said.append((target, round(delay, 1), victim == process.pid, code, kept))
        assert gone(below) == set(), f"processes of the killed run live on: {said[-1]}"
        assert start(executor, out, log).wait(timeout=300) == 0, log.read_text()
        assert contents(out / "smoke") == expected, said[-1]
        assert not (out / "smoke" / ".work").exists()
    print(f"{executor}: undisturbed {duration:.1f} s; (target, after, driver, exit, files) {said}")
    assert any(driver for _, _, driver, _, _ in said)
    assert any(not driver for _, _, driver, _, _ in said)
