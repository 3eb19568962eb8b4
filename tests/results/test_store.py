"""The store: what is done, what is missing, and disks that refuse."""

import multiprocessing
import shutil
import threading
import time
from pathlib import Path

import pytest

from obdbench.errors import InvalidSettingError
from obdbench.results.record import Result, write_json
from obdbench.results.store import ResultStore, StorageError, find_disk_error
from obdbench.results.synset_store import SynsetStore


def test_manifest_is_a_union_and_tells_what_is_missing(store, spec):
    first, second = spec(), spec("raises")
    store.add_to_manifest([first])
    store.add_to_manifest([second, first])
    assert set(store.read_manifest().trials) == {first.key, second.key}
    assert store.find_missing([first, second]) == [first, second]
    store.save(Result.unfinished(first, "toy", "failed", "why"), "Traceback …")
    assert store.read_results([first, second])[first.key].status == "failed"
    assert store.find_missing([first, second]) == [second]
    assert store.log_path(first.key).read_text() == "Traceback …"
    store.remove_trials([first])
    assert store.find_missing([first]) == [first]
    assert not store.log_path(first.key).exists()


@pytest.mark.reliability(
    "fault",
    "Result file cut short",
    injection="the last 20 bytes removed",
    outcome="it counts as missing, so that --resume runs it",
)
def test_a_damaged_result_counts_as_missing(store, spec):
    trial = spec()
    store.save(Result.unfinished(trial, "toy", "failed", "why"))
    path = store.result_path(trial.key)
    path.write_text(path.read_text()[:-20])
    assert store.find_missing([trial]) == [trial]


def test_what_another_run_has_finished_since_the_plan_is_kept(store, spec):
    done, failed, damaged = spec(), spec("raises"), spec(steps=5)
    store.save(Result.unfinished(done, "toy", "failed", "why").model_copy(update={"status": "ok"}))
    for trial in (failed, damaged):
        store.save(Result.unfinished(trial, "toy", "failed", "why"))
    store.result_path(damaged.key).write_text("{")
    store.remove_failed([done, failed, damaged])
    assert [store.result_path(trial.key).exists() for trial in (done, failed, damaged)] == [
        True,
        False,
        False,
    ]


def test_work_that_another_process_holds_is_not_forgotten(store, spec):
    first, second = spec(), spec(steps=5)
    for each in (first, second):
        store.save(Result.unfinished(each, "toy", "failed", "why"))
        SynsetStore(store, each).work_folder.mkdir(parents=True)
        SynsetStore(store, each).snapshot.write_text("half way")
    with SynsetStore(store, second).lock():
        with pytest.raises(InvalidSettingError, match="Another process"):
            store.remove_trials([first, second])
        store.remove_work_folder()
        assert SynsetStore(store, second).snapshot.exists()
    assert store.find_missing([first, second]) == []
    store.remove_trials([first, second])
    assert store.find_missing([first, second]) == [first, second]
    assert not SynsetStore(store, second).snapshot.exists()


def test_work_that_another_run_has_planned_is_kept(store, spec):
    done, planned = spec(), spec(steps=5)
    store.prepare()
    store.save(Result.unfinished(done, "toy", "failed", "why"))
    stray = store.folder / ".a.json.123"
    stray.write_text("{")
    for specs, remains in (((done, planned), True), ((), False)):
        store.add_to_manifest(specs)
        if not specs:
            store.save(Result.unfinished(planned, "toy", "failed", "why"))
        store.remove_work_folder()
        assert store.work_folder.exists() == stray.exists() == remains


def test_a_file_that_a_running_trial_writes_is_kept(store, spec):
    done = spec()
    store.prepare()
    store.add_to_manifest([done])
    store.save(Result.unfinished(done, "toy", "failed", "why"))
    stray = store.folder / ".a.json.123"
    stray.write_text("{")
    with SynsetStore(store, done).lock():
        store.remove_work_folder()
        assert stray.exists()
    store.remove_work_folder()
    assert not stray.exists()


def test_who_waits_for_a_lock_survives_that_its_folder_is_tidied_away(store, spec):
    """A run that ends removes the working folder, perhaps between two looks of one that waits."""
    synsets = SynsetStore(store, spec())
    got = threading.Event()

    def wait():
        with synsets.lock():
            got.set()

    with synsets.lock():
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.2)
        assert not got.is_set()
        shutil.rmtree(store.work_folder)
        time.sleep(0.2)
    waiting.join(10)
    assert got.is_set()


def test_a_damaged_manifest_is_set_aside(store, spec, caplog):
    first, second = spec(), spec("raises")
    path = store.folder / "manifest.json"
    for number, expected in ((1, first), (2, second)):
        store.add_to_manifest([expected])
        damaged = path.read_text()[:-20]
        path.write_text(damaged)
        caplog.clear()
        assert set(store.add_to_manifest([second]).trials) == {second.key}
        assert (store.folder / f"manifest.{number}.broken").read_text() == damaged
        (record,) = caplog.records
        assert f"manifest.{number}.broken" in record.message
        assert "\n" not in record.message
    store.add_to_manifest([first])
    assert set(store.read_manifest().trials) == {first.key, second.key}
    assert len(list(store.folder.glob("*.broken"))) == 2


def test_a_result_under_a_foreign_key_is_refused(store, spec):
    first, second = spec(), spec("raises")
    result = Result.unfinished(first, "toy", "failed", "why")
    write_json(Result(**{**result.model_dump(), "key": second.key}), store.result_path(second.key))
    assert store.read_result(second.key) is None


def _expect_many(root, specs):
    store = ResultStore(root, "toy")
    for spec in specs:
        store.add_to_manifest([spec])


@pytest.mark.reliability(
    "fault",
    "Two runs in one results folder",
    injection="two processes add 40 trials to one manifest",
    outcome="every trial is in it",
)
def test_two_processes_lose_nothing_of_the_manifest(store, spec):
    specs = [spec(steps=n) for n in range(1, 41)]
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_expect_many, args=(store.root, specs[i::2])) for i in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert set(store.read_manifest().trials) == {spec.key for spec in specs}


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a\0b"])
def test_suite_names_stay_inside_the_folder(tmp_path, name):
    with pytest.raises(InvalidSettingError):
        ResultStore(tmp_path, name)


def test_unwritable_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Cannot write .*--out") as caught:
        ResultStore(tmp_path / "file", "toy").prepare()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_recognized_through_other_errors(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        _write_to_full_disk()
    assert find_disk_error(caught.value, tmp_path) is not None
    assert find_disk_error(FileNotFoundError(2, "no such file"), tmp_path) is None
    foreign = PermissionError(13, "denied", "/somewhere/else")
    assert find_disk_error(foreign, tmp_path) is None
    assert find_disk_error(PermissionError(13, "denied", str(tmp_path / "x")), tmp_path) is not None


def _write_to_full_disk():
    try:
        with open("/dev/full", "w") as file:
            file.write("x")
    except OSError as full:
        raise RuntimeError("wrapped") from full


def test_empty_folders_are_removed_but_work_is_kept(tmp_path):
    store = ResultStore(tmp_path / "new", "toy")
    store.prepare()
    store.remove_empty_folders()
    assert not (tmp_path / "new").exists()
    store.prepare()
    (store.work_folder / "something").write_text("")
    store.remove_empty_folders()
    assert store.work_folder.is_dir()
