"""Every text file that is read back: results, manifests, records, suites, presets, pages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import altered, as_json, damaged
from support.fuzzing import ReadCounter, examples, reading_test
from support.suite_files import FIXTURES, SUITE, result_file_names

from obdbench.execution.trial_cost import count_episodes
from obdbench.experiments import presets
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import load_suite
from obdbench.reporting import pages
from obdbench.reporting.grids.suite_results import read_suite_results
from obdbench.reporting.publish import publish_results
from obdbench.reporting.show import describe_file
from obdbench.reporting.tables.suite_report import build_report
from obdbench.results.record import DataIdentity, Result, StudentCheckRecord, read_json
from obdbench.results.store import ResultStore
from obdbench.results.synset_store import DistillationRecord, PartialScores, SynsetStore

INJECTION = "hypothesis: damaged bytes, junk in valid JSON"
TOML_INJECTION = "hypothesis: damaged bytes, arbitrary text"


def a_result() -> dict[str, Any]:
    """A committed result, without most of its points."""
    content: dict[str, Any] = json.loads((FIXTURES / result_file_names()[0]).read_text())
    content["points"] = content["points"][:3]
    return content


RESULT = a_result()
NAMES = (RESULT["key"], "manifest")


@reading_test("result files: read, shown, tabulated, published", INJECTION)
def test_result(folder: Path, read_counter: ReadCounter) -> None:
    suite_folder = folder / "quick"
    suite_folder.mkdir()
    path = suite_folder / f"{RESULT['key']}.json"
    path.write_bytes(as_json(RESULT))
    assert len(read_suite_results(suite_folder, strict=True)) == 1

    @examples(60)
    @given(st.one_of(damaged(as_json(RESULT)), altered(RESULT).map(as_json)))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        read_counter.read(lambda: read_suite_results(suite_folder, strict=True), build_report)
        collection = read_counter.read(
            lambda: read_suite_results(suite_folder)
        )  # never refuses the folder
        assert len(collection) + len(collection.skipped) == 1
        shown = read_counter.read(lambda: describe_file(path))
        assert shown is None or shown.startswith("trial")
        read_counter.read(lambda: ResultStore(folder, "quick").read_result(RESULT["key"]))
        read_counter.read(lambda: publish_results(suite_folder, folder / "out"))

    check()
    assert read_counter.rejected
    assert read_counter.accepted


@reading_test("manifests", INJECTION)
def test_manifest(folder: Path, read_counter: ReadCounter) -> None:
    store = ResultStore(folder, "quick")
    store.prepare()
    valid = json.loads((FIXTURES / "manifest.json").read_text())
    key, *others = valid["trials"]
    valid["trials"] = {key: valid["trials"][key]}
    spec = read_json(Result, FIXTURES / f"{others[0]}.json").spec

    @examples(60)
    @given(st.one_of(damaged(as_json(valid)), altered(valid).map(as_json)))
    def check(content: bytes) -> None:
        (store.folder / "manifest.json").write_bytes(content)
        read_counter.read(store.read_manifest)
        assert read_counter.read(lambda: read_suite_results(store.folder)) is not None
        manifest = read_counter.read(lambda: store.add_to_manifest([spec]))
        assert spec.key in manifest.trials

    check()
    assert read_counter.rejected
    assert read_counter.accepted


@reading_test(
    "distillation.json and partial scores", INJECTION, "computed anew, or a record that can be used"
)
def test_records_of_unfinished_work(folder: Path, read_counter: ReadCounter) -> None:
    spec = read_json(Result, FIXTURES / f"{NAMES[0]}.json").spec
    synsets = SynsetStore(ResultStore(folder, "quick"), spec)
    source = DataIdentity(id="toy", checksum="0" * 64, size=9)
    check = StudentCheckRecord(step=4, missed_variance=0.5, missed_objective=None)
    record = DistillationRecord(
        steps=[0, 4],
        losses={"0": [(0, 1.0)]},
        student_checks={"0": [check]},
        infinite_width_ended_at={"0": 4},
        env_id="Hopper-v4",
        dataset=source,
        curve=[(4, 1.0)],
    )
    scores = PartialScores(points={4: RESULT["points"][:1]}, seconds=2.0)
    for step in record.steps:
        (synsets.folder / str(step)).mkdir(parents=True)
        for seed in spec.seeds:
            synsets.synset_path(step, seed).touch()
    (synsets.folder / "²").mkdir()  # a digit to str.isdigit, none to int
    synsets.save_record(record)
    synsets.save_scores(scores)
    assert synsets.read_record() == record
    assert synsets.read_scores() == scores
    valid_contents = {
        synsets.folder / "distillation.json": record.model_dump(mode="json"),
        synsets.scores_path: scores.model_dump(mode="json"),
    }

    @examples(60)
    @given(st.data(), st.sampled_from(sorted(valid_contents)), st.booleans())
    def check(data: st.DataObject, path: Path, bytewise: bool) -> None:
        content = as_json(valid_contents[path])
        content = data.draw(
            damaged(content) if bytewise else altered(valid_contents[path]).map(as_json)
        )
        path.write_bytes(content)
        stored_record = read_counter.read(synsets.read_record)
        assert stored_record is None or isinstance(stored_record, DistillationRecord)
        assert isinstance(read_counter.read(synsets.read_scores), PartialScores)

    check()


PRESET = b"""
base = "fast"
summary = "one line"
[settings]
outer_lr = 0.02
[objectives.av-pbc]
beta = 0.05
[provenance]
criterion = "offline"
"""
VALUES = [
    '""',
    '"²"',
    '"0-5000"',
    "[]",
    "[1.5]",
    "{}",
    "{a=1}",
    "nan",
    "-inf",
    "1979-05-27",
    "true",
]
VALUES += ["9" * 30, "[[[]]]", '"\\u0000"', '"pbc"', "[{}]", "[{name=[]}]", "[-1]", "[0, 0]"]


@st.composite
def toml(draw: st.DrawFn, valid: bytes) -> bytes:
    """Damaged bytes, arbitrary text, or one value replaced by one of another kind."""
    damage = draw(st.sampled_from(["bytes", "value", "value", "text"]))
    if damage == "bytes":
        return draw(damaged(valid))
    if damage == "text":
        return draw(st.text(max_size=80)).encode("utf-8", "surrogatepass")
    lines = valid.decode().splitlines()
    at = draw(st.sampled_from([i for i, line in enumerate(lines) if "=" in line]))
    lines[at] = lines[at].partition("=")[0] + "= " + draw(st.sampled_from(VALUES))
    return "\n".join(lines).encode()


def previewed(specs: list[TrialSpec]) -> None:
    """What a dry run needs of every trial, and a result's way through its file."""
    for spec in specs:
        assert count_episodes(spec) > 0
        record = Result.unfinished(spec, "mine", "failed", "not run")
        assert Result.model_validate_json(json.dumps(record.model_dump(mode="json"))) == record


@reading_test("suites (TOML)", TOML_INJECTION, "one line, or a valid suite")
def test_suite(folder: Path, read_counter: ReadCounter) -> None:
    path = folder / "mine.toml"

    @examples(125)
    @given(toml(SUITE))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        suite = read_counter.read(lambda: load_suite(str(path)))
        if suite is not None:
            read_counter.read(suite.specs, previewed)

    check()
    assert read_counter.rejected
    assert read_counter.accepted


@reading_test("presets (TOML)", TOML_INJECTION, "one line, or valid settings")
def test_preset(folder: Path, read_counter: ReadCounter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDBENCH_PRESETS", str(folder))

    @examples(100)
    @given(toml(PRESET))
    def check(content: bytes) -> None:
        (folder / "mine.toml").write_bytes(content)
        read_counter.read(lambda: presets.load_preset("mine"), lambda preset: preset.resolve({}))

    check()
    assert read_counter.rejected
    assert read_counter.accepted


@reading_test("leaderboard pages", "hypothesis: damaged bytes of a page")
def test_page(folder: Path, read_counter: ReadCounter) -> None:
    """A page of which the markers are gone is left alone, and said so."""
    results, out = folder / "results", folder / "leaderboards"
    shutil.copytree(FIXTURES, results / "quick")
    for path in sorted((results / "quick").glob("*.json"))[2:]:
        path.unlink()
    pages.write_pages(results, out, plots=False)
    valid = (out / "quick.md").read_bytes()

    @examples(20)
    @given(damaged(valid))
    def check(content: bytes) -> None:
        (out / "quick.md").write_bytes(content)
        written = read_counter.read(lambda: pages.write_pages(results, out, plots=False))
        if written is None:
            assert (out / "quick.md").read_bytes() == content

    check()
    assert read_counter.rejected
    assert read_counter.accepted
