"""The Ray executor: the same results as in this very process, and nothing left behind."""

import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.toy_suite import PLUGINS, alone, contents, write_hopper

from obdbench.errors import InvalidSettingError, ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import plan, run

pytest.importorskip("ray")


def ray_processes() -> list[str]:
    """Ray's processes of drivers that this process started."""
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if "obdbench-ray-" in line]


def scratch_folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("obdbench-*"))


@pytest.mark.reliability(
    "fault",
    "Worker killed within a trial, Ray",
    how="SIGKILL of itself in the first loss, beside a trial that raises",
    outcome="it is started again; results equal undisturbed ones, bit for bit; no process and no "
    "temporary file left",
)
def test_good_and_bad_trials_and_a_killed_worker(tmp_path, toy_suite, capfd):
    mark = tmp_path / "died-once"
    once = {"name": "dies", "params": {"once": str(mark)}}
    before = set(scratch_folders())
    options = ExecutionConfig(out=tmp_path / "ray", executor="ray", workers=2, plugins=PLUGINS)
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
    unfinished = {path.parent.name for path in summary.store.work_folder.glob("*/snapshot")}
    (failed,) = [
        spec.distill_key
        for spec in summary.store.read_manifest().trials.values()
        if spec.objective == "raises"
    ]
    assert unfinished <= {failed}
    assert not list(summary.store.work_folder.glob("token-*"))
    deadline = time.monotonic() + 10
    while ray_processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray_processes() == []


def test_relative_paths_mean_the_folder_of_the_driver(tmp_path, toy_suite, monkeypatch):
    """As with the local executor; Tune would change a worker's directory to one of its own."""
    write_hopper(tmp_path / "hopper-mine.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_CHDIR_TO_TRIAL_DIR", raising=False)
    suite = toy_suite("random", protocols=("default",), steps=0).model_copy(
        update={"datasets": ("file:hopper-mine.npz",)}
    )
    summary = run(suite, ExecutionConfig(out=Path("out"), executor="ray", workers=1))
    assert set(summary.status.values()) == {"ok"}, summary.errors
    assert contents(summary.store.folder).keys() == alone(suite, tmp_path / "alone").keys()


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_gpu_index_is_refused(device):
    """Ray would show the worker another GPU under that index, or none."""
    with pytest.raises(InvalidSettingError, match="CUDA_VISIBLE_DEVICES"):
        ExecutionConfig(executor="ray", device=device)


@pytest.mark.parametrize(
    ("gpus", "workers", "share"), [(1.0, 2, 0.5), (1.0, 4, 0.25), (4.0, 8, 0.5), (4.0, 2, 1.0)]
)
def test_a_job_declares_its_share_of_the_gpus(monkeypatch, gpus, workers, share):
    """What is declared; no GPU is used by it."""
    from obdbench.execution.executors import ray_cluster

    held = {"CPU": 16.0, "GPU": gpus}
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: held)
    setup = ExecutionConfig(executor="ray", device="cuda", threads=2)
    assert ray_cluster.job_resources(setup, workers) == {"cpu": 2, "gpu": share}
    assert ray_cluster.count_workers(setup) == 2 * gpus
    assert ray_cluster.job_resources(replace(setup, device="cpu"), workers) == {"cpu": 2}
    assert ray_cluster.count_workers(replace(setup, device="cpu")) == 8


def test_a_cluster_without_gpus_is_one_line(monkeypatch):
    from obdbench.execution.executors import ray_cluster

    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(ObdError, match=r"Ray sees no GPU\. Use --device cpu\."):
        ray_cluster.job_resources(ExecutionConfig(executor="ray", device="cuda"), 2)


def test_device_of_a_cluster_is_not_checked_on_the_driver(tmp_path, toy_suite, monkeypatch):
    def refuse(device):
        raise ObdError(f"no {device} here", "none")

    monkeypatch.setattr("obdbench.execution.run.check_device", refuse)
    options = ExecutionConfig(out=tmp_path, executor="ray", device="cuda", plugins=PLUGINS)
    with pytest.raises(ObdError, match="no cuda here"):
        plan(toy_suite("student"), options)
    assert plan(toy_suite("student"), replace(options, address="auto")).remaining


@pytest.mark.reliability(
    "fault",
    "Trial whose process is killed every time, Ray",
    how="SIGKILL of itself in every first loss",
    outcome="a failed row after three times; the rest is done",
)
@pytest.mark.slow
def test_a_trial_whose_process_always_dies_is_given_up(tmp_path, toy_suite):
    options = ExecutionConfig(out=tmp_path, executor="ray", workers=2, plugins=PLUGINS)
    summary = run(toy_suite("dies", "student"), options)
    assert sorted(summary.status.values()) == ["failed", "ok"]
    assert "died 3 times" in next(iter(summary.errors.values()))


@pytest.mark.reliability(
    "fault",
    "Trials that hang, and --fail-fast, Ray",
    how="an endless sleep with a timeout of 5 s; a trial that raises beside a slow one",
    outcome="a timeout row, the rest goes on; with --fail-fast the run ends within a minute",
)
@pytest.mark.slow
def test_hanging_trials_time_out_and_fail_fast_stops(tmp_path, toy_suite):
    options = ExecutionConfig(
        out=tmp_path, executor="ray", workers=1, timeout=5.0, grace=1.0, plugins=PLUGINS
    )
    summary = run(toy_suite("sleeps", "random"), options)
    assert sorted(summary.status.values()) == ["ok", "timeout"]
    suite = toy_suite("raises", {"name": "student", "params": {"pause": 5.0}}, name="fast")
    began = time.monotonic()
    summary = run(
        suite,
        ExecutionConfig(out=tmp_path, executor="ray", workers=2, fail_fast=True, plugins=PLUGINS),
    )
    assert "first failure" in summary.stop_reason
    assert time.monotonic() - began < 60
