"""Reading: what is sound is kept, what is not is named, and nothing in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError
from obdbench.reporting.grids.frame import results_frame
from obdbench.reporting.grids.suite_results import (
    ResultWarning,
    best_point,
    read_suite_results,
    suite_results_of,
)
from obdbench.reporting.pages import markdown_blocks
from obdbench.reporting.tables.suite_report import build_report
from obdbench.results.check_scores import find_dataset_task
from obdbench.results.headline import headline_score
from obdbench.results.record import Result, read_bytes, read_json
from obdbench.results.store import ResultStore
from obdbench.tasks.task import TASKS, normalized_return


@pytest.fixture
def folder(results_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results_root / "quick", tmp_path / "quick"))


def first_file(folder: Path) -> Path:
    return min(path for path in folder.glob("*.json") if path.name != "manifest.json")


def changed(folder: Path, **changes: object) -> bytes:
    content = json.loads(first_file(folder).read_text())
    return json.dumps({**content, **changes}).encode()


def point(folder: Path, **changes: object) -> bytes:
    content = json.loads(first_file(folder).read_text())
    content["points"][0].update(changes)
    return json.dumps(content).encode()


def environment(folder: Path, env_id: str) -> bytes:
    """Measured elsewhere, with scores that follow on the scale of that place."""
    content = json.loads(first_file(folder).read_text())
    content["environment"]["env_id"] = env_id
    task = next((task for task in TASKS.values() if task.env_id == env_id), TASKS["hopper"])
    for point in content["points"]:
        point["normalized_return"] = float(normalized_return(task, point["returns"]).mean())
    return json.dumps(content).encode()


def failed(folder: Path, **changes: object) -> bytes:
    content = json.loads(point(folder, **changes))
    return json.dumps({**content, "status": "failed", "error": "out of memory"}).encode()


ENDLESS = "9" * 5000
QUOTED = f'"{ENDLESS}"'.encode()
LONG = f"{ENDLESS},".encode()
BAD = {
    "empty": lambda f: b"",
    "half-written": lambda f: first_file(f).read_bytes()[:500],
    "not-json": lambda f: b"<html>not found</html>",
    "binary": lambda f: bytes(range(256)) * 8,
    "not-utf8": lambda f: first_file(f).read_bytes().replace(b"quick", b"\xff\xfe"),
    "deep": lambda f: b"[" * 200_000,
    "a-list": lambda f: b"[1, 2, 3]",
    "null": lambda f: b"null",
    "foreign": lambda f: b'{"name": "package", "version": "1.0"}',
    "foreign-with-our-version": lambda f: b'{"schema_version": 1, "model": "resnet"}',
    "older-schema": lambda f: changed(f, schema_version=0),
    "newer-schema": lambda f: changed(f, schema_version=2),
    "no-schema": lambda f: json.dumps(
        {k: v for k, v in json.loads(changed(f)).items() if k != "schema_version"}
    ).encode(),
    "extra-key": lambda f: changed(f, surprise=1),
    "other-key": lambda f: changed(f, key="0" * 16),
    "unknown-status": lambda f: changed(f, status="fine"),
    "nan-score": lambda f: point(f, normalized_return=float("nan")),
    "infinite-return": lambda f: point(f, returns=[[float("inf")]]),
    "huge-return": lambda f: point(f, returns=[[1.7e308, 1.7e308]]),
    "endless-number": lambda f: changed(f, error=ENDLESS).replace(QUOTED, ENDLESS.encode()),
    "endless-version": lambda f: changed(f, schema_version=0).replace(b": 0,", b": " + LONG, 1),
    "endless-seed": lambda f: point(f, seed=10**4000),
    "no-returns": lambda f: point(f, returns=[], normalized_return=150.0),
    "empty-returns": lambda f: point(f, returns=[[]], normalized_return=150.0),
    "returns-of-some": lambda f: point(f, returns=[[], [3234.3]], normalized_return=100.0),
    "no-points": lambda f: changed(f, points=[]),
    "no-environment": lambda f: changed(f, environment=None),
    "unknown-environment": lambda f: environment(f, "Hopper-v5"),
    "environment-of-another-task": lambda f: environment(f, "Walker2d-v4"),
    "failed-with-forged-scores": lambda f: failed(f, returns=[], normalized_return=150.0),
    "text-score": lambda f: point(f, normalized_return="high"),
    "zero-to-one": lambda f: point(f, normalized_return=0.07),
    "foreign-seed": lambda f: point(f, seed=77),
    "repeated-point": lambda f: point(f, step=60),
    "negative-step": lambda f: point(f, step=-1),
    "copy": lambda f: first_file(f).read_bytes(),
}


@pytest.mark.reliability(
    "input",
    "Bad result files",
    injection="cut short, foreign, of another schema, forged keys, scores that do "
    "not follow, by hand",
    outcome="named in a warning and counted nowhere",
)
@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named_and_counted_nowhere(folder, case):
    content = BAD[case](folder)
    before = markdown_blocks(build_report(read_suite_results(folder)), "", "")
    (folder / "zz-bad.json").write_bytes(content)
    with pytest.warns(ResultWarning, match="zz-bad.json"):
        collection = read_suite_results(folder)
    assert [problem.file for problem in collection.skipped] == ["zz-bad.json"]
    after = markdown_blocks(build_report(collection), "", "")
    assert after.pop("gaps").count("zz-bad.json") >= 1
    before.pop("gaps")
    assert after == before
    with pytest.raises(InvalidDataError, match=r"zz-bad\.json"):
        read_suite_results(folder, strict=True)


def test_a_valid_folder_gives_no_warning(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collection = read_suite_results(folder, strict=True)
    assert len(collection) == 6
    assert collection.suite == "quick"
    assert collection.has_manifest
    assert not collection.missing


def test_reasons_do_not_name_the_machine(folder):
    (folder / "zz-bad.json").write_text("{")
    with pytest.warns(ResultWarning):
        collection = read_suite_results(folder)
    assert str(folder) not in collection.skipped[0].reason


def test_oversized_files_are_not_read(folder, monkeypatch):
    monkeypatch.setattr("obdbench.results.record.MAX_BYTES", 100)
    with pytest.warns(ResultWarning, match="too large for a record"):
        assert len(read_suite_results(folder)) == 0


@pytest.mark.reliability(
    "input",
    "Bad result files",
    injection="devices, pipes, folders and dead links of that name",
    outcome="named in a warning and never read",
)
@pytest.mark.parametrize("name", ["zz-bad.json", "manifest.json"])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "nowhere"])
def test_what_is_no_regular_file_is_named_and_never_read(folder, name, kind):
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)  # which nobody ever writes to
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to("/dev/zero" if kind == "device" else folder / "nothing")
    with pytest.warns(ResultWarning, match=f"{name}.*regular file"):
        assert len(read_suite_results(folder)) == 6
    assert ResultStore(folder.parent, "quick").read_result("zz-bad") is None


def test_files_that_grow_beyond_their_size_are_not_read(folder, monkeypatch):
    monkeypatch.setattr("obdbench.results.record.MAX_BYTES", 2**16)
    (folder / "zz-bad.json").write_bytes(b" " * 2**17)
    with pytest.raises(InvalidDataError, match="too large for a record"):
        read_bytes(folder / "zz-bad.json")


@pytest.mark.parametrize(
    ("dataset", "task"),
    [
        ("embedded/walker2d-medium-v1", "walker2d"),
        ("d4rl/halfcheetah-full-replay-v2", "halfcheetah"),
        ("d4rl/hopper-medium-v2", "hopper"),
        ("minari/mujoco/walker2d/expert-v0", "walker2d"),
        ("file:/data/hopper-mine.npz", None),
        ("file:mine.npz#halfcheetah", "halfcheetah"),
        ("file:mine.npz", None),
        ("minari/mujoco/ant/expert-v0", None),
        ("minari/hopper", None),
        ("my-lab/hopper-like-v1", None),
        ("mine", None),
        ("embedded", None),
    ],
)
def test_the_task_of_a_dataset_follows_from_its_identifier(dataset, task):
    known = find_dataset_task(dataset)
    assert (known.name if known else None) == task


def test_user_datasets_may_be_scored_in_any_known_environment(folder):
    record = read_json(Result, first_file(folder))
    for dataset in ("my-lab/something-v1", "file:mine.npz", "file:mine.npz#hopper"):
        spec = record.spec.model_copy(update={"dataset": dataset})
        own = record.model_copy(update={"spec": spec, "key": spec.key})
        assert len(suite_results_of([own])) == 1


def test_cards_hidden_files_and_folders_are_ignored(folder):
    (folder / "abc.safetensors").write_bytes(b"")
    (folder / "abc.json").write_text('{"objective": "pbc"}')
    (folder / ".abc.json.tmp").write_text("{")
    (folder / ".half.json").write_text("{")
    (folder / "synsets").mkdir()
    assert len(read_suite_results(folder, strict=True)) == 6


def test_a_corrupt_manifest_is_named(folder):
    (folder / "manifest.json").write_text("{}")
    with pytest.warns(ResultWarning, match=r"manifest\.json"):
        collection = read_suite_results(folder)
    assert not collection.has_manifest
    assert "There is no manifest" in markdown_blocks(build_report(collection), "", "")["main"]


def test_a_note_states_that_results_come_from_several_files_of_one_name(folder):
    words = "results from different files of one name"
    assert words not in markdown_blocks(build_report(read_suite_results(folder)), "", "")["main"]
    changed = first_file(folder)
    content = json.loads(changed.read_text())
    content["dataset"]["checksum"] = "0" * 64
    changed.write_text(json.dumps(content))
    assert words in markdown_blocks(build_report(read_suite_results(folder)), "", "")["main"]


def test_expected_trials_without_result_are_missing(folder):
    lost = first_file(folder)
    spec = read_json(Result, lost).spec
    lost.unlink()
    assert read_suite_results(folder).missing == {spec.key: spec}


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(InvalidDataError, match="no folder"):
        read_suite_results(tmp_path / "nothing")


def test_headline_is_the_mean_of_the_last_five_points():
    curve = tuple((step, float(step)) for step in (0, 10, 20, 30, 40, 50, 60))
    assert headline_score(curve) == 40.0
    assert headline_score(curve[:3]) == 15.0
    assert headline_score(((0, 7.0),)) == 7.0


def test_the_best_point_is_the_earliest_of_the_highest():
    assert best_point(((0, 1.0), (10, 9.0), (20, 9.0), (30, 2.0))) == (10, 9.0)
    assert best_point(((0, 30.0), (10, 20.0), (20, 25.0))) == (20, 25.0), "step 0 is not distilled"
    assert best_point(((0, 30.0),)) == (0, 30.0)


def test_points_are_ordered_by_step_not_by_position(folder):
    path = first_file(folder)
    content = json.loads(path.read_text())
    before = results_frame([read_suite_results(folder)])
    content["points"].reverse()
    path.write_text(json.dumps(content))
    assert results_frame([read_suite_results(folder)]).equals(before)


def test_results_in_memory_make_the_same_collection(results_root, quick):
    folder = results_root / "quick"
    records = [read_json(Result, folder / entry.file) for entry in quick.entries]
    entries = tuple(replace(entry, command=()) for entry in quick.entries)  # no manifest
    assert suite_results_of(records, "quick").entries == entries


@pytest.mark.parametrize(
    ("dataset", "source"),
    [
        ("embedded/hopper-medium-v1", "embedded"),
        ("minari/mujoco/hopper/medium-v0", "minari"),
        ("file:/data/mine.hdf5", "file"),
    ],
)
def test_the_source_of_a_dataset_follows_from_its_identifier(dataset, source):
    assert DatasetId(dataset).source == source


def test_reporting_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys, obdbench.reporting.pages, obdbench.reporting.compare, "
        "obdbench.reporting.site.html, obdbench.reporting.show; "
        "print({'torch', 'ray', 'matplotlib', 'obdbench.execution'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_headline_score_omits_step_0() -> None:
    assert headline_score(((0, 10.0),)) == 10.0
    assert headline_score(((0, 10.0), (4, 50.0))) == 50.0
    assert headline_score(tuple((step, float(step)) for step in range(8))) == 5.0
