"""Plans and runs: what is read, what is scored from memory, and which command is recorded."""

from collections import Counter
from dataclasses import replace

import pytest
from support.runs import collect
from support.toy_suite import PLUGINS

from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import execute, load_and_check_inputs, plan
from obdbench.execution.trial import run_trial
from obdbench.results import record
from obdbench.results.record import Result
from obdbench.results.synset_store import SynsetStore


@pytest.fixture
def config(tmp_path, in_process):
    return ExecutionConfig(
        out=tmp_path, workers=1, existing="resume", plugins=PLUGINS, command=("run", "toy")
    )


@pytest.fixture
def reads(monkeypatch):
    """How often this process parses each result file."""
    counts = Counter()
    read_json = record.read_json

    def count(model, path):
        if model is Result:
            counts[path.name] += 1
        return read_json(model, path)

    monkeypatch.setattr(record, "read_json", count)
    return counts


def test_each_result_is_parsed_once_per_run(toy_suite, config, reads):
    suite = toy_suite("student", "random")
    first = execute(plan(suite, config))
    assert set(first.status.values()) == {"ok"}
    assert set(reads.values()) == {1}
    reads.clear()
    assert execute(plan(suite, config)).results == first.results
    assert set(reads.values()) == {1}
    reads.clear()
    results, summary = collect(toy_suite("student", "random", name="other"), config)
    assert (len(results), summary) == (2, None)
    assert set(reads.values()) == {1}


def test_a_reused_result_has_the_preset_that_the_plan_names(toy_suite, config):
    (good,) = execute(plan(toy_suite("random"), config)).results.values()
    other = toy_suite("random", name="other").model_copy(update={"preset": "exact"})
    (spec,) = plan(other, config).specs
    renamed = spec.model_copy(update={"preset": good.spec.preset})
    assert renamed == good.spec  # the settings of the toy suite override both presets
    (reused,), _ = collect(other, config)
    assert reused.spec == spec


def test_the_manifest_keeps_the_first_command_of_a_trial(toy_suite, config):
    first = execute(plan(toy_suite("random"), config))
    second = execute(plan(toy_suite("random", "raises"), replace(config, command=("run", "two"))))
    commands = second.store.read_manifest().commands
    assert {commands[key] for key in first.status} == {("run", "toy")}
    assert {commands[key] for key in second.status.keys() - first.status} == {("run", "two")}


def test_synsets_are_scored_from_memory(spec, store, monkeypatch):
    monkeypatch.setattr(SynsetStore, "load_synsets", lambda self, step: pytest.fail("read back"))
    assert run_trial(spec(), store).status == "ok"


def test_scores_after_a_restart_equal_scores_from_memory(spec, store):
    result = run_trial(spec(), store)
    store.result_path(result.key).unlink()
    again = run_trial(spec(), store)  # reads the synsets of the first run
    assert again.timing.distill == 0.0
    assert again.points == result.points


def test_a_mismatch_of_students_is_one_warning_for_all_sizes(spec, caplog):
    settings = {"kernel_share": 0.5, "architecture": "residual"}
    load_and_check_inputs([spec(pairs=pairs, **settings) for pairs in (2, 4, 8)])
    assert caplog.text.count("infinite-width limit") == 1
    load_and_check_inputs([spec(**settings), spec(**{**settings, "kernel_share": 0.25})])
    assert caplog.text.count("infinite-width limit") == 3


def test_the_record_of_a_distillation_is_read_once(toy_suite, config, monkeypatch):
    protocols = ("toy", {"name": "toy", "params": {"shift": 1.0}})
    prepared = plan(toy_suite("student", protocols=protocols), config)
    read = []
    monkeypatch.setattr(SynsetStore, "read_record", lambda self: read.append(self.spec.distill_key))
    assert prepared.finished_distillations() == set()
    assert (len(prepared.specs), len(read)) == (2, 1)
