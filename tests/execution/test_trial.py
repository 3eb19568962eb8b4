"""One trial: equal specs give equal results, whatever happened on the way."""

import json
from dataclasses import replace

import pytest
from support.toy_suite import comparable_files, comparable_record

from obdbench.execution.config import ExecutionConfig
from obdbench.execution.trial import run_trial
from obdbench.results.record import Result
from obdbench.results.store import ResultStore
from obdbench.results.synset_store import SynsetStore

SNAPSHOTS = ExecutionConfig(snapshot_seconds=0.0001)  # after every step


def fresh(tmp_path, name):
    store = ResultStore(tmp_path / name, "toy")
    store.prepare()
    return store


def test_the_same_spec_twice_gives_the_same_files(tmp_path, spec):
    trial = spec()
    stores = [fresh(tmp_path, name) for name in ("a", "b")]
    results = [run_trial(trial, store) for store in stores]
    assert results[0].status == "ok", results[0].error
    assert comparable_files(stores[0].folder) == comparable_files(stores[1].folder)
    assert [(p.step, p.seed) for p in results[0].points] == [
        (step, seed) for step in (0, 2, 4) for seed in (0, 1)
    ]
    assert set(results[0].losses) == {"0", "1"}
    assert results[0].dataset is not None
    assert results[0].dataset.size == 300
    assert results[0].environment is not None
    assert results[0].environment.env_id == "Hopper-v4"
    assert results[0].key == trial.key


def test_protocols_share_one_distillation(store, spec, tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    monkeypatch.setenv("TOY_TRACE", str(trace))
    first = run_trial(spec(), store)
    losses = trace.read_text()
    assert losses
    other = spec().model_copy(update={"protocol_params": {"shift": 5.0}})
    assert other.distill_key == spec().distill_key
    second = run_trial(other, store)
    assert trace.read_text() == losses  # nothing was distilled again
    assert second.timing.distill == 0 < first.timing.distill
    assert [p.returns[0][0] + 5000.0 for p in first.points] == pytest.approx(
        [p.returns[0][0] for p in second.points]
    )
    assert second.losses == first.losses


def test_removed_synsets_are_distilled_again(store, spec):
    run_trial(spec(), store)
    before = comparable_files(store.folder)
    folder = SynsetStore(store, spec())
    folder.synset_path(2, 0).parent.rename(store.folder / "gone")
    store.result_path(spec().key).unlink()
    assert folder.read_record() is None
    run_trial(spec(), store)
    (store.folder / "gone").rename(store.root / "gone")
    assert comparable_files(store.folder) == before


def test_a_lost_synset_of_one_seed_is_distilled_again(store, spec):
    run_trial(spec(), store)
    before = comparable_files(store.folder)
    folder = SynsetStore(store, spec())
    folder.synset_path(2, 1).unlink()
    store.result_path(spec().key).unlink()
    assert (folder.read_record(), folder.complete_steps()) == (None, [0, 4])
    assert run_trial(spec(), store).status == "ok"
    assert comparable_files(store.folder) == before


class KilledError(BaseException):
    """Stands for a kill: no handler of the product may see it."""


@pytest.mark.parametrize("stop", range(1, 7))
def test_going_on_after_a_kill_at_any_event_gives_the_same_files(tmp_path, spec, stop):
    whole, broken = fresh(tmp_path, "whole"), fresh(tmp_path, "broken")
    run_trial(spec(), whole)
    events = []

    def interrupt(event):
        events.append(event.kind)
        if len(events) == stop:
            raise KilledError

    with pytest.raises(KilledError):
        run_trial(spec(), broken, SNAPSHOTS, interrupt)
    assert broken.result_path(spec().key).exists() == (events[-1] == "ok")
    run_trial(spec(), broken)
    assert comparable_files(broken.folder) == comparable_files(whole.folder)


@pytest.mark.parametrize("stop", range(1, 5))
def test_a_kill_within_any_step_costs_that_step_only(tmp_path, spec, stop, monkeypatch):
    whole, broken = fresh(tmp_path, "whole"), fresh(tmp_path, "broken")
    run_trial(spec(), whole)
    trace = tmp_path / "trace"
    monkeypatch.setenv("TOY_TRACE", str(trace))
    monkeypatch.setenv("TOY_KILL_AT", str(stop))
    with pytest.raises(KeyboardInterrupt):
        run_trial(spec(), broken, SNAPSHOTS)
    run_trial(spec(), broken)
    assert len(trace.read_text().splitlines()) == 4 + 1
    assert comparable_files(broken.folder) == comparable_files(whole.folder)


@pytest.mark.reliability(
    "fault",
    "Trials that raise, run out of memory or diverge",
    injection="an exception, MemoryError, torch beyond RLIMIT_AS, a loss that is not a number",
    outcome="a failed row with its reason, one line",
)
@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("raises", "ZeroDivisionError: the reason of it"),
        ("memory", "out of memory"),
        ("hoards", "out of memory: "),
        ("diverges", "not finite"),
    ],
)
def test_a_failure_is_a_row_with_its_reason(store, spec, objective, message):
    trial = spec(objective)
    result = run_trial(trial, store)
    assert result.status == "failed"
    assert message in (result.error or "")
    assert "\n" not in (result.error or "")
    assert store.read_result(trial.key) == result
    assert "Traceback" in store.log_path(trial.key).read_text()


def test_impossible_size_and_unknown_objective_are_rows(store, spec):
    assert "fewer than the 301 pairs" in (run_trial(spec(pairs=301), store).error or "")
    lost = spec().model_copy(update={"objective": "not-installed"})
    assert "no objective named" in (run_trial(lost, store).error or "")


@pytest.mark.reliability(
    "fault",
    "Trial that takes too long",
    injection="a slow loss with a timeout of 0.4 s",
    outcome="a timeout row; the snapshot is kept",
)
def test_timeout_keeps_what_was_done(store, spec):
    trial = spec(params={"pause": 0.15}, steps=40)
    result = run_trial(trial, store, replace(SNAPSHOTS, timeout=0.4))
    assert result.status == "timeout"
    assert "0.4 s" in (result.error or "")
    assert SynsetStore(store, trial).snapshot.is_file()


def test_random_selection_takes_no_steps(store, spec):
    result = run_trial(spec("random"), store)
    assert {point.step for point in result.points} == {0}
    assert result.losses == {"0": [], "1": []}
    assert SynsetStore(store, spec("random")).read_record().steps == [0]


def test_threads_and_determinism_are_restored(store, spec):
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    assert run_trial(spec(), store, ExecutionConfig(threads=2)).environment.threads == 2
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_the_code_of_an_own_objective_is_part_of_its_key(spec, plugin):
    from obdbench.experiments.fingerprint import code_fingerprint
    from obdbench.plugins import Plugin
    from obdbench.registry import objectives

    assert code_fingerprint([(objectives, "pbc")]) == {}
    here = code_fingerprint([(objectives, "student")])
    assert set(here) == {"objective"}
    edited = Plugin(plugin.reference, (plugin.source or "") + "\n# edited\n")
    try:
        edited.load()
        assert code_fingerprint([(objectives, "student")]) != here
    finally:
        plugin.load()
    assert spec().model_copy(update={"code": here}).key != spec().key


def test_results_validate_on_read(store, spec):
    result = run_trial(spec(), store)
    again = Result.model_validate(json.loads(store.result_path(result.key).read_text()))
    assert again == result
    assert comparable_record(store.result_path(result.key))["schema_version"] == 1


def test_student_checks_are_recorded_and_passed_on(store, spec):
    events = []
    checked = spec(guard_interval=2, guard_states=64)
    result = run_trial(checked, store, on_event=events.append)
    assert result.status == "ok", result.error
    assert [check.step for check in result.student_checks["1"]] == [0, 2, 4]
    assert all(check.missed_objective is not None for check in result.student_checks["0"])
    assert result.infinite_width_ended_at == {}
    checked_before_last_step = [checks[1] for checks in result.student_checks.values()]
    mean = sum(check.missed_variance for check in checked_before_last_step) / 2
    assert [e.missed_variance for e in events if e.kind == "step"][-1] == pytest.approx(mean)
    again = checked.model_copy(update={"protocol_params": {"shift": 5.0}})
    assert run_trial(again, store).student_checks == result.student_checks


def test_the_end_of_an_infinite_width_phase_is_recorded(store, spec):
    """With diverging students from the first step on, two checks end the phase."""
    guard = {"guard_interval": 1, "guard_states": 64, "guard_max_rise": 0.0}
    diverging = {"steps": 8, "kernel_share": 0.5, "kernel_lr": 50.0, "schedule": "constant"}
    result = run_trial(spec(**guard, **diverging), store)
    assert result.status == "ok", result.error
    assert set(result.infinite_width_ended_at) <= {"0", "1"}
    assert result.infinite_width_ended_at["0"] < 4
    assert [check.step for check in result.student_checks["0"]][-1] == 8
