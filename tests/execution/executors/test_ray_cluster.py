"""A real cluster of two Ray nodes on the loopback interface, one of which is killed mid-run."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from support.paths import ROOT
from support.toy_suite import TOY, alone, contents, write_hopper

from obdbench.execution.run import ExecutionConfig, plan, run

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray_cluster


@pytest.fixture
def cluster(plugin):
    """Two nodes of one CPU each: the address, and a function that kills the second."""
    from ray.cluster_utils import Cluster

    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    os.environ["PYTHONPATH"] = str(ROOT)
    folder = Path(tempfile.mkdtemp(prefix="obdtest-"))
    (folder / "ray").mkdir()
    os.environ["RAY_TMPDIR"] = str(folder)
    made = Cluster()
    small = {"num_cpus": 1, "object_store_memory": 80 * 1024 * 1024}
    try:
        health = {"health_check_period_ms": 1000}
        made.add_node(include_dashboard=False, _system_config=health, **small)
        second = made.add_node(**small)
        yield made.address, lambda: made.remove_node(second, allow_graceful=False)
    finally:
        ray.shutdown()
        made.shutdown()
        del os.environ["RAY_TMPDIR"]
        shutil.rmtree(folder, ignore_errors=True)


def objectives(count, pause):
    return [{"name": "student", "params": {"pause": pause + n * 1e-9}} for n in range(count)]


def check(summary, suite, folder):
    assert set(summary.status.values()) == {"ok"}, summary.errors
    ours = contents(summary.store.folder)
    for name, content in alone(suite, folder).items():
        assert ours[name] == content
    assert len(list(summary.store.folder.glob("*.json"))) == len(summary.status) + 1


@pytest.mark.reliability(
    "fault",
    "Two nodes",
    how="a cluster of two Ray nodes on the loopback interface; with a shared results folder, and "
    "with results through the driver",
    outcome="every trial is done once; results equal a single process's, bit for bit",
)
@pytest.mark.parametrize("shared", [True, False], ids=["shared-folder", "through-the-driver"])
def test_a_suite_on_two_nodes(cluster, tmp_path, toy_suite, shared, monkeypatch):
    address, _ = cluster
    if not shared:
        hide_token(monkeypatch)
    suite = toy_suite("random", *objectives(4, 0.05))
    options = ExecutionConfig(
        out=tmp_path / "out", executor="ray", address=address, workers=2, plugins=(TOY,)
    )
    check(run(suite, options), suite, tmp_path / "alone")


def test_relative_paths_on_nodes_started_elsewhere(cluster, tmp_path, toy_suite, monkeypatch):
    """The nodes run in the folder that these tests were started in."""
    address, _ = cluster
    write_hopper(tmp_path / "hopper-mine.npz")
    monkeypatch.chdir(tmp_path)
    suite = toy_suite("random", protocols=("default",), steps=0).model_copy(
        update={"datasets": ("file:hopper-mine.npz",)}
    )
    summary = run(
        suite, ExecutionConfig(out=Path("out"), executor="ray", address=address, workers=1)
    )
    assert set(summary.status.values()) == {"ok"}, summary.errors


@pytest.mark.reliability(
    "fault",
    "Node killed in mid-run",
    how="one of the two nodes is killed after the first result; with a shared folder, and through "
    "the driver",
    outcome="everything is done on the node that is left; no trial is lost or counted twice; "
    "results equal a single process's, bit for bit",
)
@pytest.mark.parametrize("shared", [True, False], ids=["shared-folder", "through-the-driver"])
def test_one_node_killed_mid_run(cluster, tmp_path, toy_suite, shared, monkeypatch):
    """Everything is done on the node that is left; no trial is lost or counted twice."""
    address, kill = cluster
    if not shared:
        hide_token(monkeypatch)
    suite = toy_suite(*objectives(6, 0.5), steps=8)
    options = ExecutionConfig(
        out=tmp_path / "out",
        executor="ray",
        address=address,
        workers=2,
        plugins=(TOY,),
        snapshot_seconds=0.5,
    )
    prepared = plan(suite, options)

    def when_running():
        deadline = time.monotonic() + 120
        while not list(prepared.store.folder.glob("*[0-9a-f].json")):
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        kill()

    thread = threading.Thread(target=when_running)
    thread.start()
    summary = run(suite, options)
    thread.join()
    check(summary, suite, tmp_path / "alone")


def hide_token(monkeypatch):
    """Make workers believe that they do not see the driver's folder."""
    from obdbench.execution.executors import ray_tune

    real = ray_tune.tune.with_parameters

    def with_parameters(function, **parameters):
        return real(function, **{**parameters, "token": "/nowhere/token"})

    monkeypatch.setattr(ray_tune.tune, "with_parameters", with_parameters)


@pytest.mark.reliability(
    "fault",
    "No Ray cluster at the address",
    how="ports that nobody listens on, a host that does not exist",
    outcome="one line, exit code 2",
)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_no_cluster_is_one_line(tmp_path, address):
    run_smoke = ["run", "smoke", "--objective", "random", "--out", str(tmp_path / "out")]
    elsewhere = ["--executor", "ray", "--address", address]
    done = subprocess.run(
        [sys.executable, "-m", "obdbench", *run_smoke, *elsewhere],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 2
    assert f"No Ray cluster answers at '{address}'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
