"""The Ray executor: the results of a single process, and no process or file left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.processes import (
    list_descendants,
    list_processes,
    short_folder,
    start_obdbench,
    wait_until_ended,
)
from support.runs import run
from support.toy_suite import PLUGINS, comparable_files, run_in_process, write_hopper

from obdbench.errors import InvalidSettingError, ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import plan

ray_cluster = pytest.importorskip("obdbench.execution.executors.ray_cluster")


@pytest.fixture
def temporary(monkeypatch):
    """A temporary folder of this test's own, with a path short enough for Ray."""
    with short_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.mark.reliability(
    "fault",
    "Worker killed within a trial, Ray",
    injection="SIGKILL of the worker in the first loss, beside a trial that raises an error",
    outcome="the trial starts again; results equal undisturbed ones, bit for bit; no process and "
    "no temporary file is left",
)
def test_killed_worker_is_replaced_and_a_failed_trial_is_a_row(
    tmp_path, toy_suite, capfd, temporary
):
    mark = tmp_path / "died-once"
    dies_once = {"name": "dies", "params": {"once": str(mark)}}
    config = ExecutionConfig(out=tmp_path / "ray", executor="ray", workers=2, plugins=PLUGINS)
    summary = run(toy_suite("random", "student", dies_once, "raises"), config)
    printed = capfd.readouterr()
    assert sorted(summary.status.values()) == ["failed", "ok", "ok", "ok"]
    assert list(summary.errors.values()) == ["ZeroDivisionError: the reason of it"]
    assert mark.exists()
    results = comparable_files(summary.store.folder)
    undisturbed = run_in_process(toy_suite("random", "student", dies_once), tmp_path / "alone")
    for name, content in undisturbed.items():
        if name != "manifest.json":
            assert results[name] == content
    assert "restart" in printed.err  # the restart was shown
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line and "toy" not in line]
    assert all(line.startswith("time: ") for line in lines), lines
    assert list(temporary.iterdir()) == []
    work_folder = summary.store.work_folder
    (failed,) = [
        spec.distill_key
        for spec in summary.store.read_manifest().trials.values()
        if spec.objective == "raises"
    ]
    assert {path.parent.name for path in work_folder.glob("*/snapshot")} <= {failed}
    assert not list(work_folder.glob("token-*"))
    assert (
        wait_until_ended(pid for pid, line in list_processes() if str(temporary) in line) == set()
    )


def test_workers_resolve_relative_paths_as_the_driver_does(tmp_path, toy_suite, monkeypatch):
    """By default Tune changes the working directory of a worker."""
    write_hopper(tmp_path / "hopper-mine.npz")
    monkeypatch.chdir(tmp_path)
    suite = toy_suite("random", protocols=("default",), steps=0).model_copy(
        update={"datasets": ("file:hopper-mine.npz",)}
    )
    summary = run(suite, ExecutionConfig(out=Path("out"), executor="ray", workers=1))
    assert set(summary.status.values()) == {"ok"}, summary.errors
    assert (
        comparable_files(summary.store.folder).keys()
        == run_in_process(suite, tmp_path / "alone").keys()
    )
    assert os.getcwd() == str(tmp_path)


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_gpu_index_is_refused(device):
    """Ray would show the worker another GPU under that index, or none."""
    with pytest.raises(InvalidSettingError, match="CUDA_VISIBLE_DEVICES"):
        ExecutionConfig(executor="ray", device=device)


@pytest.mark.parametrize(
    ("gpus", "workers", "share"),
    [(1.0, 2, 0.5), (1.0, 4, 0.25), (4.0, 8, 0.5), (4.0, 2, 1.0), (2.0, 3, 0.5)],
)
def test_job_declares_its_share_of_the_gpus(monkeypatch, gpus, workers, share):
    resources = {"CPU": 16.0, "GPU": gpus}
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: resources)
    on_gpu = ExecutionConfig(executor="ray", device="cuda", threads=2)
    on_cpu = replace(on_gpu, device="cpu")
    assert ray_cluster.job_resources(on_gpu, workers) == {"cpu": 2, "gpu": share}
    assert ray_cluster.count_workers(on_gpu) == 2 * gpus
    assert ray_cluster.job_resources(on_cpu, workers) == {"cpu": 2}
    assert ray_cluster.count_workers(on_cpu) == 8


def test_cluster_without_gpus_is_an_error(monkeypatch):
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(ObdError) as raised:
        ray_cluster.job_resources(ExecutionConfig(executor="ray", device="cuda"), 2)
    assert "GPU" in raised.value.cause
    assert "--device cpu" in raised.value.remedy


def test_device_of_a_cluster_is_not_checked_on_the_driver(tmp_path, toy_suite, monkeypatch):
    def refuse(device):
        raise ObdError(f"no {device} here", "none")

    monkeypatch.setattr("obdbench.execution.run.check_device", refuse)
    config = ExecutionConfig(out=tmp_path, executor="ray", device="cuda", plugins=PLUGINS)
    with pytest.raises(ObdError, match="no cuda here"):
        plan(toy_suite("student"), config)
    assert plan(toy_suite("student"), replace(config, address="auto")).remaining


@pytest.mark.reliability(
    "fault",
    "Trial whose process is killed every time, Ray",
    injection="SIGKILL of the worker in every first loss",
    outcome="a failed row after three times; the other trial is done",
)
@pytest.mark.slow
def test_trial_whose_process_always_dies_becomes_a_failed_row(tmp_path, toy_suite):
    config = ExecutionConfig(out=tmp_path, executor="ray", workers=2, plugins=PLUGINS)
    summary = run(toy_suite("dies", "student"), config)
    assert sorted(summary.status.values()) == ["failed", "ok"]
    assert "3 times" in next(iter(summary.errors.values()))


@pytest.mark.reliability(
    "fault",
    "Trials that hang, Ray",
    injection="an endless sleep with a timeout of 5 s",
    outcome="a timeout row; the other trial is done",
)
@pytest.mark.slow
def test_hanging_trial_becomes_a_timeout_row(tmp_path, toy_suite, capfd):
    config = ExecutionConfig(
        out=tmp_path, executor="ray", workers=1, timeout=5.0, grace=1.0, plugins=PLUGINS
    )
    summary = run(toy_suite("sleeps", "random"), config)
    assert sorted(summary.status.values()) == ["ok", "timeout"]
    assert "restart" not in capfd.readouterr().err  # a timeout is no loss of a process


@pytest.mark.reliability(
    "fault",
    "--fail-fast, Ray",
    injection="a trial that raises an error beside a slow one",
    outcome="the run ends within a minute and names the failure",
)
@pytest.mark.slow
def test_fail_fast_ends_the_run(tmp_path, toy_suite):
    config = ExecutionConfig(
        out=tmp_path, executor="ray", workers=2, fail_fast=True, plugins=PLUGINS
    )
    slow = {"name": "student", "params": {"pause": 5.0}}
    start = time.monotonic()
    summary = run(toy_suite("raises", slow), config)
    assert "first failure" in summary.stop_reason
    assert time.monotonic() - start < 60


@pytest.mark.reliability(
    "fault",
    "SIGTERM while Ray starts",
    injection="the signal once Ray's control server is there",
    outcome="exit code 130; no process and no temporary file is left",
)
@pytest.mark.slow
def test_sigterm_while_ray_starts_ends_the_run_cleanly(tmp_path, temporary):
    options = ["--executor", "ray", "--out", str(tmp_path / "out")]
    process = start_obdbench("run", "smoke", *options, log=tmp_path / "log", temporary=temporary)
    deadline = time.monotonic() + 120
    while not any("gcs_server" in line for _, line in list_descendants(process.pid)):
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started = [pid for pid, _ in list_descendants(process.pid)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 130
    assert wait_until_ended(started) == set()
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_warnings_of_the_package_are_shown_while_output_is_discarded():
    program = """
import logging, sys
from obdbench.execution.executors.ray_cluster import discard_output

with discard_output():
    print("noise")
    print("noise", file=sys.stderr)
    logging.getLogger("obdbench.execution").warning("a warning")
logging.getLogger("obdbench.execution").warning("after it")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr.splitlines() == ["a warning", "after it"]


def test_a_session_of_the_caller_is_refused_and_kept(monkeypatch):
    ended = []
    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray_cluster.ray, "shutdown", lambda: ended.append(True))
    with pytest.raises(ObdError, match="Ray"), ray_cluster.connect(ExecutionConfig(workers=1)):
        pass
    assert not ended
