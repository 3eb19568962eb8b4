"""The Ray executor: the same results as in this very process, and nothing left behind."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from bench_toys import TOY, alone, contents

from obdbench.bench.runner import Options, run

pytest.importorskip("ray")


def ray_processes() -> list[str]:
    """Ray's processes of drivers that this process started."""
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if "obdbench-ray-" in line]


def scratch_folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("obdbench-*"))


def test_good_and_bad_trials_and_a_killed_worker(tmp_path, toy_suite, capfd):
    mark = tmp_path / "died-once"
    once = {"name": "dies", "params": {"once": str(mark)}}
    before = set(scratch_folders())
    options = Options(out=tmp_path / "ray", executor="ray", workers=2, plugins=(TOY,))
    summary = run(toy_suite("random", "student", once, "raises"), options)
    said = capfd.readouterr()
    assert sorted(summary.status.values()) == ["failed", "ok", "ok", "ok"]
    assert list(summary.errors.values()) == ["ZeroDivisionError: the reason of it"]
    assert mark.exists()
    undisturbed = alone(toy_suite("random", "student", once), tmp_path / "alone")
    ours = contents(summary.store.folder)
    for name, content in undisturbed.items():
        if name != "manifest.json":
            assert ours[name] == content
    assert "again" in said.err  # the killed worker was announced
    assert said.out == ""
    foreign = [line for line in said.err.splitlines() if line and "toy" not in line]
    assert foreign == []
    assert set(scratch_folders()) <= before
    unfinished = {path.parent.name for path in summary.store.work.glob("*/snapshot")}
    (failed,) = [
        spec.distill_key
        for spec in summary.store.manifest().trials.values()
        if spec.objective == "raises"
    ]
    assert unfinished <= {failed}
    assert not list(summary.store.work.glob("token-*"))
    deadline = time.monotonic() + 10
    while ray_processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray_processes() == []


@pytest.mark.slow
def test_a_trial_whose_process_always_dies_is_given_up(tmp_path, toy_suite):
    options = Options(out=tmp_path, executor="ray", workers=2, plugins=(TOY,))
    summary = run(toy_suite("dies", "student"), options)
    assert sorted(summary.status.values()) == ["failed", "ok"]
    assert "lost 3 times" in next(iter(summary.errors.values()))


@pytest.mark.slow
def test_hanging_trials_time_out_and_fail_fast_stops(tmp_path, toy_suite):
    options = Options(
        out=tmp_path, executor="ray", workers=1, timeout=5.0, grace=1.0, plugins=(TOY,)
    )
    summary = run(toy_suite("sleeps", "random"), options)
    assert sorted(summary.status.values()) == ["ok", "timeout"]
    suite = toy_suite("raises", {"name": "student", "params": {"pause": 5.0}}, name="fast")
    began = time.monotonic()
    summary = run(
        suite, Options(out=tmp_path, executor="ray", workers=2, fail_fast=True, plugins=(TOY,))
    )
    assert "first failure" in summary.ended
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_five_hundred_trivial_trials(tmp_path, toy_suite):
    """All done, readable output, nothing left, memory in bounds."""
    objectives = [{"name": "student", "params": {"pause": n * 1e-9}} for n in range(500)]
    suite = toy_suite(*objectives, steps=1, evaluate_at=[1.0])
    script = tmp_path / "run.py"
    (tmp_path / "suite.json").write_text(suite.model_dump_json())
    script.write_text(
        "from pathlib import Path\n"
        "from obdbench.bench.runner import Options, run\n"
        "from obdbench.bench.plugins import Plugin\n"
        "from obdbench.bench.suite import Suite\n"
        f"suite = Suite.model_validate_json(Path({str(tmp_path / 'suite.json')!r}).read_text())\n"
        f"options = Options(out=Path({str(tmp_path / 'out')!r}), executor='ray', workers=2,"
        f" plugins=({TOY!r},))\n"
        "summary = run(suite, options)\n"
        "print(sorted(set(summary.status.values())), len(summary.status))\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    print(f"500 trials in {time.monotonic() - began:.0f} s")
    assert done.stdout.strip() == "['ok'] 500", done.stderr
    assert all(len(line) <= 80 for line in done.stderr.splitlines())
    assert ray_processes() == []
