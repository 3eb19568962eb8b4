"""``kill -9`` of a worker or of the driver at random moments: after --resume nothing differs."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress

import pytest
from support.processes import list_descendants, short_folder, start_obdbench, wait_until_ended
from support.toy_suite import comparable_files

MOMENTS = int(os.environ.get("OBDBENCH_KILL_MOMENTS", "20"))
RAYS_OWN = ("raylet", "gcs_server")  # they end with a machine that is lost
MARKS = {
    "local": ("obdbench.execution.executors.local_worker",),
    "ray": ("ray::",),
    "ray's own": RAYS_OWN,
}

pytestmark = pytest.mark.slow


OUTCOME = (
    "no process remains after two minutes; after `--resume` the results are those of an "
    "undisturbed run, bit for bit"
)


def killed(name, injection):
    return pytest.mark.reliability("fault", name, injection=injection, outcome=OUTCOME)


def members(pid, role):
    """Processes of a run that play a role, with their names."""
    marks = MARKS[role]
    return {
        child: next(mark for mark in marks if mark in line)
        for child, line in list_descendants(pid)
        if any(mark in line for mark in marks) and "IDLE" not in line
    }


def kill_at_random(tmp_path, executor, targets, moments, attempts):
    """Kill at as many moments and resume each time; every fault found."""
    log = tmp_path / "log"
    faults, victims = [], Counter()

    def run(out):
        arguments = ("run", "smoke", "--executor", executor, "--out", str(out), "--resume")
        return start_obdbench(*arguments, log=log, temporary=temporary)

    def disturb(out, target, delay):
        """Kill after so many seconds; whether the run was not done before that."""
        process = run(out)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=delay)
        below = [child for child, _ in list_descendants(process.pid)]
        named = {} if target == "driver" else members(process.pid, target)
        if process.poll() is not None:
            return False
        victim = rng.choice(list(named)) if named else process.pid
        name = named.get(victim, "driver")
        os.kill(victim, signal.SIGKILL)
        victims[name if target == "ray's own" or name == "driver" else "worker"] += 1
        with attempts:
            code = process.wait(timeout=1800)
            attempt = f"{name} after {delay:.1f} s, exit {code}"
            assert wait_until_ended(below) == set(), (
                f"{attempt}: processes of the killed run live on"
            )
            assert run(out).wait(timeout=1800) == 0, f"{attempt}: --resume failed"
            assert comparable_files(out / "smoke") == expected, f"{attempt}: the results differ"
            assert not (out / "smoke" / ".work").exists(), f"{attempt}: work is left"
            left = [path.name for path in temporary.iterdir() if path.name.startswith("obdbench")]
            assert left == [], f"{attempt}: {left} is left in the temporary folder"
        return True

    with short_folder() as temporary:
        began = time.monotonic()
        assert run(tmp_path / "whole").wait() == 0, log.read_text()
        duration = time.monotonic() - began
        expected = comparable_files(tmp_path / "whole" / "smoke")
        assert len(expected) > 10
        rng = random.Random(20)
        while attempts.attempted < moments:
            out = tmp_path / f"out{rng.randrange(10**9)}"
            target, delay = rng.choice(targets), rng.uniform(0.0, duration)
            began = time.monotonic()
            try:
                if not disturb(out, target, delay):  # the machine has become quieter
                    duration = time.monotonic() - began
            except (AssertionError, subprocess.TimeoutExpired) as fault:
                faults.append(str(fault).splitlines()[0])
    counts = ", ".join(f"{count} {name}" for name, count in victims.most_common())
    attempts.outcome = f"{OUTCOME} ({counts})"
    return faults


@killed("`kill -9` of a worker or the driver, local", "random moments of a `smoke` run")
def test_twenty_kills_change_nothing(tmp_path, attempts):
    assert kill_at_random(tmp_path, "local", ["driver", "local"], MOMENTS, attempts) == []


@killed("`kill -9` of a worker or the driver, Ray", "random moments of a `smoke` run")
def test_twenty_kills_change_nothing_with_ray(tmp_path, attempts):
    pytest.importorskip("ray")
    assert kill_at_random(tmp_path, "ray", ["driver", "ray"], MOMENTS, attempts) == []


@killed(
    "`kill -9` of Ray's own processes",
    "its raylet or its control server, at random moments of a `smoke` run",
)
def test_kills_of_rays_own_processes_change_nothing(tmp_path, attempts):
    pytest.importorskip("ray")
    moments = max(1, MOMENTS // 4)
    assert kill_at_random(tmp_path, "ray", ["ray's own"], moments, attempts) == []
