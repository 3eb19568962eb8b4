"""Results of a file that has changed under its name are not taken for those of the new one."""

import time
from contextlib import contextmanager

import numpy as np
import pytest
from support.toy_suite import SETTINGS, TOY

from obdbench.errors import InvalidDataError
from obdbench.execution.job import Setup, _expire
from obdbench.execution.run import ExecutionConfig, collect, execute, plan
from obdbench.execution.trial import run_trial
from obdbench.experiments.suite import Suite
from obdbench.results.store import stores


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
def mine(tmp_path, plugin):
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
        **{"out": tmp_path / "out", "workers": 1, "existing": "resume", "plugins": (TOY,)} | changes
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
    assert [store.suite for store in stores(tmp_path / "out")] == ["mine"]
    results, summary = collect(suite.model_copy(update={"name": "compare"}), options(tmp_path))
    assert len(results) == 1
    assert summary is None


def test_a_trial_that_waited_takes_the_result_of_the_one_it_waited_for(spec, store):
    first = run_trial(spec("random"), store)

    @contextmanager
    def guard():
        yield

    held = run_trial(spec("random"), store, guard=guard, reuse=True)
    assert held == first
    time.sleep(1.1)  # a run of its own starts in another second
    assert run_trial(spec("random"), store).timing.started != first.timing.started


def test_the_watchdog_leaves_a_good_result_alone(spec, store, monkeypatch):
    ended = []
    monkeypatch.setattr("obdbench.execution.job.os._exit", ended.append)
    one, setup = spec("random"), Setup(root=str(store.root), suite=store.suite, timeout=1.0)
    run_trial(one, store)
    _expire(one, setup)
    assert store.result(one.key).status == "ok"
    store.path(one.key).unlink()
    _expire(one, setup)
    assert store.result(one.key).status == "timeout"
    assert len(ended) == 2
