"""The local executor: real worker processes, and what happens when they misbehave."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.processes import list_descendants, run_environment
from support.runs import collect, run
from support.toy_suite import PLUGINS, SETTINGS, TOY, comparable_files, run_in_process

from obdbench.errors import InvalidSettingError, ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import Event, ignore_event
from obdbench.execution.executors import local
from obdbench.execution.executors.base import MAX_DEATHS, RunEvents
from obdbench.execution.job import check_specs, group_into_jobs, run_job
from obdbench.execution.run import execute, plan
from obdbench.execution.trial import TIMEOUT_EXIT, run_trial
from obdbench.experiments.suite import Suite
from obdbench.plugins import Plugin, load_plugins
from obdbench.results.headline import mean_headline_score
from obdbench.results.record import Result
from obdbench.results.store import ResultStore


def list_workers() -> list[str]:
    """Worker processes of this process."""
    module = "obdbench.execution.executors.local_worker"
    return [line for _, line in list_descendants(os.getpid()) if module in line]


@pytest.fixture(scope="module")
def outcome(plugin, tmp_path_factory):
    """One run of everything that can go wrong, by two workers."""
    folder = tmp_path_factory.mktemp("local")
    mark = folder / "died-once"
    suite = Suite(
        name="toy",
        datasets=("toy/hopper-toy-v0",),
        objectives=[
            "random",
            "student",
            "raises",
            "dies",
            {"name": "dies", "params": {"once": str(mark)}},
        ],
        protocols=["toy"],
        seeds=(0, 1),
        settings=SETTINGS,
    )
    options = ExecutionConfig(
        out=folder / "results", workers=2, timeout=90.0, grace=1.0, plugins=PLUGINS
    )
    prepared = plan(suite, options)
    return prepared, execute(prepared), mark


def by_objective(outcome, objective, **params):
    prepared, summary, _ = outcome
    matching = [
        spec
        for spec in prepared.specs
        if spec.objective == objective and spec.objective_params == params
    ]
    return [(summary.status[spec.key], summary.errors.get(spec.key, "")) for spec in matching]


def test_good_trials_are_done_beside_bad_ones(outcome):
    _, summary, mark = outcome
    assert by_objective(outcome, "random") == [("ok", "")]
    assert by_objective(outcome, "student") == [("ok", "")]
    assert mark.exists()
    assert by_objective(outcome, "dies", once=str(mark)) == [("ok", "")]
    assert summary.exit_code == 1


@pytest.mark.reliability(
    "fault",
    "Trials that raise, and whose process is killed every time",
    injection="a division by zero, and SIGKILL of itself, among good trials; local",
    outcome="a failed row each with its reason; the others are done",
)
def test_bad_trials_are_rows_with_their_reason(outcome):
    assert by_objective(outcome, "raises") == [("failed", "ZeroDivisionError: the reason of it")]
    ((status, error),) = by_objective(outcome, "dies")
    assert status == "failed"
    assert "died 3 times" in error
    assert "memory" in error


@pytest.mark.reliability(
    "fault",
    "Trials that hang beyond their time",
    injection="an endless sleep in the loss with a timeout of 2 s; local",
    outcome="a timeout row each; the other trials continue",
)
def test_a_trial_that_hangs_becomes_a_row_and_the_rest_goes_on(tmp_path, toy_suite):
    options = ExecutionConfig(out=tmp_path, workers=1, timeout=2.0, grace=1.0, plugins=PLUGINS)
    suite = toy_suite("sleeps", protocols=("toy", {"name": "toy", "params": {"shift": 1.0}}))
    summary = run(suite, options)
    assert list(summary.status.values()) == ["timeout"] * 2
    assert all("longer than 2 s and did not respond" in e for e in summary.errors.values())


@pytest.mark.reliability(
    "fault",
    "Worker killed within a trial",
    injection="SIGKILL of itself in the first loss; local",
    outcome="it is started again; the result equals an undisturbed one, bit for bit",
)
def test_a_killed_worker_changes_nothing(outcome, tmp_path, toy_suite):
    """The trial whose worker was killed equals one that was left alone."""
    prepared, _, mark = outcome
    assert mark.exists(), "the worker was not killed; going on would kill this process"
    disturbed = comparable_files(prepared.store.folder)
    suite = toy_suite({"name": "dies", "params": {"once": str(mark)}})
    undisturbed = run_in_process(suite, tmp_path)
    assert len(undisturbed) > 10
    for name, content in undisturbed.items():
        if name != "manifest.json":
            assert disturbed[name] == content


def test_no_process_and_no_foreign_file_is_left(outcome):
    prepared, _, _ = outcome
    assert list_workers() == []
    names = {path.name for path in prepared.store.folder.iterdir()}
    assert not any(name.startswith(".") and name != ".work" for name in names)


def test_resume_runs_exactly_what_is_missing(outcome, monkeypatch):
    prepared, summary, _ = outcome
    with pytest.raises(InvalidSettingError, match="--resume"):
        execute(plan(prepared.suite, prepared.config))
    from dataclasses import replace

    resumed = replace(prepared.config, existing="resume")
    assert plan(prepared.suite, resumed).remaining == []
    again = plan(prepared.suite, replace(resumed, retry_failed=True)).remaining
    assert {summary.status[spec.key] for spec in again} == {"failed"}
    everything = plan(prepared.suite, replace(resumed, existing="fresh")).remaining
    assert everything == prepared.specs
    assert execute(plan(prepared.suite, resumed)).status == summary.status


def test_collect_takes_results_of_any_suite(outcome, toy_suite, tmp_path):
    prepared, _, _ = outcome
    other = toy_suite("student", "random", name="other")
    options = ExecutionConfig(out=prepared.config.out, existing="resume", plugins=PLUGINS)
    results, summary = collect(other, options)
    assert summary is None
    assert {result.suite for result in results} == {"toy"}
    assert not (prepared.config.out / "other").exists()


@pytest.mark.reliability(
    "fault",
    "--fail-fast",
    injection="a trial that raises; local",
    outcome="the run ends at this trial and prints the reason; the others are missing, "
    "for --resume",
)
def test_fail_fast_stops_and_says_why(tmp_path, toy_suite):
    options = ExecutionConfig(out=tmp_path, workers=1, fail_fast=True, plugins=PLUGINS)
    suite = toy_suite("raises", "student", protocols=("toy",))
    summary = run(suite, options)
    assert "first failure" in summary.stop_reason
    assert "ZeroDivisionError" in summary.stop_reason
    assert sorted(summary.status.values()) == ["failed", "missing"]
    assert summary.exit_code == 1


def test_a_death_between_two_trials_counts_against_the_next(tmp_path, toy_suite):
    """The first trial is finished; the second still has all its attempts."""
    specs = toy_suite("student", "raises").specs()
    store = ResultStore(tmp_path, "toy")
    store.prepare()
    received = []
    events = RunEvents(ExecutionConfig(out=tmp_path), store, received.append)
    for _ in range(MAX_DEATHS - 1):
        missing = events.forward_stored_results(specs)
        assert events.count_death(missing, specs[0].key, "killed") == specs
    store.save(Result.unfinished(specs[0], "toy", "failed", "why"))
    missing = events.forward_stored_results(specs)
    assert events.count_death(missing, specs[0].key, "killed") == [specs[1]]
    assert [event.key for event in received if event.kind == "restart"] == [
        *[specs[0].key] * (MAX_DEATHS - 1),
        specs[1].key,
    ]


def test_a_stored_result_is_read_once_and_reported_with_its_score(store, spec, monkeypatch):
    trial, received = spec("random"), []
    result = run_trial(trial, store)
    events = RunEvents(ExecutionConfig(), store, received.append)
    assert events.forward_stored_results([trial]) == []
    assert received == [Event("ok", trial.key, score=mean_headline_score(result))]
    monkeypatch.setattr(store, "read_result", lambda key: pytest.fail("read again"))
    assert events.forward_stored_results([trial]) == []
    assert len(received) == 1


FAKE_WORKER = """#!{python}
import os, sys
from multiprocessing.connection import Connection
from obdbench.execution.events import Event

pipe = Connection(int(sys.argv[-2]))
pipe.recv_bytes(), pipe.recv_bytes()  # settings and job
pipe.send(Event("start", {key!r}))
print(5000 * "-", "last words", flush=True)
os._exit({code})
"""


@pytest.mark.parametrize("code", [3, TIMEOUT_EXIT])
def test_a_worker_that_leaves_no_result_dies_three_times_and_its_output_is_kept(
    tmp_path, store, spec, monkeypatch, code
):
    """A timeout without a result is a death as well; otherwise the trial would restart forever."""
    trial, restarts = spec(), []
    script = tmp_path / "worker"
    script.write_text(FAKE_WORKER.format(python=sys.executable, key=trial.key, code=code))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))

    def on_event(event):
        if event.kind == "start":
            restarts.append(event)
            assert len(restarts) <= MAX_DEATHS

    store.work_folder.joinpath("worker-0.log").write_text("of an earlier run\n")
    config = ExecutionConfig(out=store.root, workers=1)
    local.execute(group_into_jobs([trial], store.suite), config, on_event, lambda: None)
    result = store.read_result(trial.key)
    assert result.status == "failed"
    assert result.error == f"Its worker died 3 times: ended with exit code {code}."
    output = store.log_path(trial.key).read_text()
    assert output.endswith("- last words\n")
    assert len(output) == 4096


@pytest.mark.slow  # a signal in mid-run races with whatever shares the cores
def test_interrupt_leaves_a_run_that_can_go_on(tmp_path, toy_suite):
    slow = {"name": "student", "params": {"pause": 0.2}}
    options = ExecutionConfig(
        out=tmp_path, workers=1, snapshot_seconds=0.001, existing="resume", plugins=PLUGINS
    )
    suite = toy_suite(slow, steps=25)
    threading.Timer(0.1, _when_snapshot, (tmp_path,)).start()
    summary = run(suite, options)
    assert summary.stop_reason == "interrupted"
    assert set(summary.status.values()) == {"missing"}
    assert list(tmp_path.glob("toy/.work/*/snapshot"))
    assert list_workers() == []
    resumed = run(suite, options)
    assert set(resumed.status.values()) == {"ok"}
    assert comparable_files(resumed.store.folder) == run_in_process(suite, tmp_path / "whole")
    assert not (resumed.store.work_folder).exists()


def _when_snapshot(folder):
    deadline = time.monotonic() + 60
    while not list(folder.glob("toy/.work/*/snapshot")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.reliability(
    "fault",
    "Worker without the plugin",
    injection="two workers that do not know the objective; local",
    outcome="one line that names it, exit code 2; nothing counts as failed, --resume runs it all",
)
def test_a_worker_without_the_plugin_says_so(tmp_path, toy_suite):
    """One line; nothing is recorded as failed, so that --resume runs it."""
    suite = toy_suite("student", {"name": "student", "params": {"pause": 1e-9}})
    message = r"A worker on .* no objective named 'student'.*--plugin \(in Python: plugins=\)"
    with pytest.raises(ObdError, match=message) as caught:
        run(suite, ExecutionConfig(out=tmp_path, workers=2))
    assert "\n" not in str(caught.value)
    assert list_workers() == []
    assert list(tmp_path.glob("toy/*.json")) == [tmp_path / "toy" / "manifest.json"]
    assert set(
        run(suite, ExecutionConfig(out=tmp_path, existing="resume", plugins=PLUGINS)).status
    ) == {spec.key for spec in suite.specs()}


def test_a_worker_that_cannot_load_a_plugin_gives_the_remedy_of_the_loader(tmp_path, spec):
    plugin = Plugin("module_that_does_not_exist")
    with pytest.raises(ObdError) as own:
        plugin.load()
    (job,) = group_into_jobs([spec()], "toy")
    with pytest.raises(ObdError, match=r"^A worker on .*module_that_does_not_exist") as caught:
        run_job(job, ExecutionConfig(out=tmp_path, plugins=(plugin,)), ignore_event)
    assert caught.value.remedy == own.value.remedy


@pytest.mark.reliability(
    "fault",
    "Worker with another source of the objective",
    injection="a source hash that is not the driver's",
    outcome="one line, before anything is run under a wrong key",
)
def test_a_worker_with_another_source_of_the_objective_says_so(spec):
    """Its results would stand under the wrong key."""
    trial = spec()
    check_specs([trial.model_copy(update={"code": trial.fingerprint_code()})])
    with pytest.raises(ObdError, match=r"plugin code of .*student.* differs"):
        check_specs([trial.model_copy(update={"code": "0" * 16})])


@pytest.mark.usefixtures("user_components")
def test_workers_accept_the_solver_and_the_state_source_of_a_plugin(toy_suite):
    suite = toy_suite({"name": "student"}, solver="mine", state_source="mine")
    (trial,) = suite.specs()
    assert set(trial.code) >= {"solver", "state source"}
    check_specs([trial])


def test_a_folder_that_becomes_unwritable_ends_the_run_with_one_line(tmp_path, toy_suite):
    suite = toy_suite({"name": "student", "params": {"pause": 0.1}}, steps=8)
    options = ExecutionConfig(out=tmp_path, workers=1, existing="resume", plugins=PLUGINS)

    def block_folder():
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("toy/synsets/*/0")) and time.monotonic() < deadline:
            time.sleep(0.02)
        (folder,) = tmp_path.glob("toy/synsets/*")
        folder.rename(tmp_path / "gone")
        folder.write_text("in the way")

    thread = threading.Thread(target=block_folder)
    thread.start()
    with pytest.raises(ObdError, match="Cannot write") as caught:
        run(suite, options)
    thread.join()
    assert "\n" not in str(caught.value)
    assert list_workers() == []


def test_a_script_without_a_main_guard_may_run_a_suite(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import obdbench\n"
        f"results = obdbench.run({str(tmp_path / 's.toml')!r}, out={str(tmp_path / 'r')!r},"
        f" plugins=[{TOY!r}], workers=1)\n"
        "print(len(results), {result.status for result in results})\n"
    )
    (tmp_path / "s.toml").write_text(
        'datasets = ["toy/hopper-toy-v0"]\nobjectives = ["random"]\nprotocols = ["toy"]\n'
        "[settings]\npairs = 4\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=run_environment(),
        timeout=120,
    )
    assert done.stdout.strip() == "1 {'ok'}", done.stderr


def test_a_module_in_the_working_directory_does_not_replace_a_library(
    tmp_path, toy_suite, monkeypatch
):
    (tmp_path / "statistics.py").write_text("raise RuntimeError('not the library')")
    monkeypatch.chdir(tmp_path)
    options = ExecutionConfig(out=tmp_path / "results", plugins=PLUGINS)
    summary = run(toy_suite("random"), options)
    assert set(summary.status.values()) == {"ok"}


def test_the_exit_code_of_a_worker_is_stated(tmp_path, toy_suite, monkeypatch):
    (tmp_path / "leaving.py").write_text(
        "from obdbench import register_objective\n"
        "from obdbench.objectives.dbc import DBC\n\n\n"
        "@register_objective('leaving')\n"
        "class Leaving(DBC):\n"
        "    def loss(self, actions, batch):\n"
        "        raise SystemExit(7)\n"
    )
    monkeypatch.chdir(tmp_path)
    plugins = (*PLUGINS, *load_plugins(["leaving.py"]))
    suite = toy_suite("leaving")
    summary = run(suite, ExecutionConfig(out=tmp_path / "results", plugins=plugins))
    assert {"exit code 1" in error for error in summary.errors.values()} == {True}
