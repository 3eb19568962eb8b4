"""Results of a file that has changed under its name are not taken for those of the new one."""

import time

import numpy as np
import pytest
from support.runs import collect
from support.toy_suite import PLUGINS, SETTINGS

from obdbench.errors import InvalidDataError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import execute, plan
from obdbench.execution.trial import TIMEOUT_EXIT, exit_with_timeout, run_trial
from obdbench.experiments.suite import Suite
from obdbench.results.store import list_stores


def write(path, seed):
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        observations=rng.standard_normal((200, 11)).astype(np.float32),
        actions=rng.uniform(-1, 1, (200, 3)).astype(np.float32),
        rewards=np.zeros(200, np.float32),
        terminals=np.zeros(200, bool),
    )


@pytest.fixture
def mine(tmp_path, plugin, in_process):
    """A suite on a file of one's own."""
    path = tmp_path / "hopper-mine.npz"
    write(path, 0)
    suite = Suite(
        name="mine",
        datasets=(f"file:{path}",),
        objectives=["random"],
        protocols=["toy"],
        seeds=(0,),
        settings=SETTINGS,
    )
    return path, suite


def options(tmp_path, **changes):
    return ExecutionConfig(
        **{"out": tmp_path / "out", "workers": 1, "existing": "resume", "plugins": PLUGINS}
        | changes
    )


def test_a_file_that_changed_is_refused_and_fresh_takes_it(mine, tmp_path):
    path, suite = mine
    assert execute(plan(suite, options(tmp_path))).exit_code == 0
    assert execute(plan(suite, options(tmp_path))).exit_code == 0
    write(path, 1)
    with pytest.raises(InvalidDataError, match="has changed since"):
        execute(plan(suite, options(tmp_path)))
    with pytest.raises(InvalidDataError, match="has changed since"):
        collect(suite.model_copy(update={"name": "compare"}), options(tmp_path))
    other = suite.model_copy(update={"protocols": suite.select(protocols=["default"]).protocols})
    with pytest.raises(InvalidDataError, match="has changed since"):  # the synsets are the old ones
        execute(plan(other, options(tmp_path)))
    assert execute(plan(suite, options(tmp_path, existing="fresh"))).exit_code == 0
    assert execute(plan(suite, options(tmp_path))).exit_code == 0


def test_hidden_folders_are_no_suites(mine, tmp_path):
    _, suite = mine
    execute(plan(suite, options(tmp_path)))
    (tmp_path / "out" / ".ipynb_checkpoints").mkdir()
    assert [store.suite for store in list_stores(tmp_path / "out")] == ["mine"]
    results, summary = collect(suite.model_copy(update={"name": "compare"}), options(tmp_path))
    assert len(results) == 1
    assert summary is None


def test_a_trial_that_waited_takes_the_result_of_the_one_it_waited_for(spec, store):
    first = run_trial(spec("random"), store)
    time.sleep(1.1)  # a second run would start in another second
    assert run_trial(spec("random"), store) == first
    store.result_path(first.key).unlink()
    assert run_trial(spec("random"), store).timing.started != first.timing.started


def test_the_exit_after_a_timeout_leaves_a_good_result_alone(spec, store, monkeypatch):
    codes = []
    monkeypatch.setattr("obdbench.execution.trial.os._exit", codes.append)
    trial = spec("random")
    run_trial(trial, store)
    exit_with_timeout(trial, store, 1.0)
    assert store.read_result(trial.key).status == "ok"
    store.result_path(trial.key).unlink()
    exit_with_timeout(trial, store, 1.0)
    assert store.read_result(trial.key).status == "timeout"
    assert codes == [TIMEOUT_EXIT] * 2
