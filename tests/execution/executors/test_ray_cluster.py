"""A real cluster of two Ray nodes on the loopback interface."""

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from support.paths import ROOT
from support.processes import run_environment
from support.runs import run
from support.toy_suite import PLUGINS, comparable_files, run_in_process, write_hopper

from obdbench.errors import ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import plan

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray_cluster
NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024 * 1024}


@pytest.fixture
def head(plugin, monkeypatch):
    """A cluster with one node of one CPU."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = Path(tempfile.mkdtemp(prefix="obdtest-", dir="/tmp"))
    (folder / "ray").mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    cluster = Cluster()
    try:
        system = {"health_check_period_ms": 1000, "worker_niceness": 0}
        cluster.add_node(include_dashboard=False, _system_config=system, **NODE)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def two_nodes(head):
    """The address of a cluster with two nodes, and a function that kills the second."""
    second = head.add_node(**NODE)
    return head.address, lambda: head.remove_node(second, allow_graceful=False)


@pytest.fixture
def node_with_another_disk(head, tmp_path):
    """Adds a node on which an empty file system hides ``tmp_path``; the address."""
    arguments = ["--address", head.address, "--num-cpus", "1", "--block"]
    start_ray = [str(Path(sys.executable).with_name("ray")), "start", *arguments]
    hide = 'mount -t tmpfs obdbench-test "$0" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide, str(tmp_path), *start_ray]
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("needs the right to create a mount namespace")
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    head.wait_for_nodes()
    deadline = time.monotonic() + 120
    while len(alive_nodes(head)) < 2:
        assert node.poll() is None, "the node does not start"
        assert time.monotonic() < deadline, "the node does not join the cluster"
        time.sleep(0.5)
    yield head.address
    node.terminate()
    node.wait(timeout=60)


def alive_nodes(cluster):
    return [node for node in cluster.global_state.node_table() if node["Alive"]]


def objectives(count, pause):
    return [{"name": "student", "params": {"pause": pause + n * 1e-9}} for n in range(count)]


def check_results(summary, suite, folder):
    assert set(summary.status.values()) == {"ok"}, summary.errors
    results = comparable_files(summary.store.folder)
    for name, content in run_in_process(suite, folder).items():
        assert results[name] == content
    assert len(list(summary.store.folder.glob("*.json"))) == len(summary.status) + 1


@pytest.mark.reliability(
    "fault",
    "Two nodes",
    injection="a cluster of two Ray nodes on the loopback interface with a shared results folder",
    outcome="every trial is done once; results equal a single process's, bit for bit",
)
def test_suite_on_two_nodes_equals_one_process(two_nodes, tmp_path, toy_suite):
    address, _ = two_nodes
    suite = toy_suite("random", *objectives(4, 0.05))
    options = ExecutionConfig(
        out=tmp_path / "out", executor="ray", address=address, workers=2, plugins=PLUGINS
    )
    check_results(run(suite, options), suite, tmp_path / "alone")


def test_nodes_resolve_relative_paths_as_the_driver_does(
    two_nodes, tmp_path, toy_suite, monkeypatch
):
    """The nodes run in the folder in which these tests were started."""
    address, _ = two_nodes
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
    "Node killed during a run",
    injection="one of two nodes is killed after the first result",
    outcome="everything is done on the remaining node; no trial is lost or counted twice; results "
    "equal a single process's, bit for bit",
)
def test_trials_of_a_killed_node_continue_on_the_other(two_nodes, tmp_path, toy_suite):
    address, kill_second_node = two_nodes
    suite = toy_suite(*objectives(6, 0.5), steps=8)
    options = ExecutionConfig(
        out=tmp_path / "out",
        executor="ray",
        address=address,
        workers=2,
        plugins=PLUGINS,
        snapshot_seconds=0.5,
    )
    folder = plan(suite, options).store.folder

    def kill_after_first_result():
        deadline = time.monotonic() + 240
        while not list(folder.glob("*[0-9a-f].json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        kill_second_node()

    thread = threading.Thread(target=kill_after_first_result)
    thread.start()
    summary = run(suite, options)
    thread.join()
    check_results(summary, suite, tmp_path / "alone")


@pytest.mark.reliability(
    "fault",
    "Nodes without shared storage",
    injection="a second Ray node in its own mount namespace, in which the results folder is empty",
    outcome="one line before any trial starts, which names the node and --out",
)
def test_node_that_lacks_the_results_folder_is_refused(node_with_another_disk, tmp_path, toy_suite):
    suite = toy_suite(*objectives(4, 0.05))
    options = ExecutionConfig(
        out=tmp_path / "out", executor="ray", address=node_with_another_disk, plugins=PLUGINS
    )
    with pytest.raises(ObdError) as raised:
        run(suite, options)
    assert str(tmp_path / "out") in raised.value.cause
    assert "--out" in raised.value.remedy
    assert "\n" not in str(raised.value)
    folder = plan(suite, options).store.folder
    assert [path.name for path in folder.glob("*.json")] == ["manifest.json"]
    assert not (folder / "synsets").exists()


@pytest.mark.reliability(
    "fault",
    "No Ray cluster at the address",
    injection="a port without a listener, a host that does not exist, an address of Ray Client",
    outcome="one line, exit code 2",
)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_address_without_a_cluster_is_one_line(tmp_path, address):
    run_smoke = ["run", "smoke", "--objective", "random", "--out", str(tmp_path / "out")]
    completed = subprocess.run(
        [sys.executable, "-m", "obdbench", *run_smoke, "--executor", "ray", "--address", address],
        capture_output=True,
        text=True,
        env=run_environment(),
        timeout=120,
    )
    assert completed.returncode == 2
    assert repr(address) in completed.stderr.splitlines()[-1]
    assert "Traceback" not in completed.stderr
