"""Publishing: compact copies say what the originals say."""

from __future__ import annotations

import shutil

import pytest

from obdbench.errors import InvalidDataError
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grids.suite_results import read_suite_results
from obdbench.reporting.pages import markdown_blocks
from obdbench.reporting.publish import publish_results
from obdbench.reporting.tables.suite_report import build_report
from obdbench.results.record import Environment, Point, Result, read_json, write_json


def tables(folder):
    return markdown_blocks(build_report(read_suite_results(folder, strict=True)), "", "")


@pytest.fixture
def raw(results_root, tmp_path):
    """A run's folder with long numbers, loss curves, logs and synsets."""
    folder = tmp_path / "raw" / "d4rl"
    shutil.copytree(results_root / "d4rl", folder)
    for path in folder.glob("*.json"):
        if path.name == "manifest.json":
            continue
        record = read_json(Result, path)
        points = [
            point.model_copy(
                update={
                    "normalized_return": point.normalized_return + 1e-7,
                    "returns": [[value + 1e-3 / 7 for value in row] for row in point.returns],
                }
            )
            for point in record.points
        ]
        losses = {"0": [(step, 1.0 / 3.0) for step in range(500)]}
        write_json(record.model_copy(update={"points": points, "losses": losses}), path)
    (folder / "abc.log").write_text("traceback")
    (folder / "synsets").mkdir()
    return folder


def size(folder):
    return sum(path.stat().st_size for path in folder.glob("*"))


def test_published_files_are_small_and_give_the_same_tables(raw, tmp_path):
    target = publish_results(raw, tmp_path / "board")
    assert target == tmp_path / "board" / "results" / "d4rl"
    assert tables(target) == tables(raw)
    assert size(target) < 0.5 * size(raw)
    assert all(path.suffix == ".json" for path in target.iterdir())


def test_publishing_again_changes_nothing(raw, tmp_path):
    target = publish_results(raw, tmp_path / "board")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    publish_results(raw, tmp_path / "board")
    publish_results(target, tmp_path / "board")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


@pytest.mark.parametrize("references", [None, (0.0, 1.0), (-0.5, 0.5), (0.0, 999.0)])
def test_published_returns_have_enough_digits_for_any_range(tmp_path, references):
    low, high = references or (0.0, 100.0)
    returns = [low + (high - low) * share for share in (0.12345678, 0.45678912)]
    score = 100.0 * (sum(returns) / 2 - low) / (high - low)
    environment = Environment(
        env_id="Mine-v0", device="cpu", threads=1, versions={}, reference_returns=references
    )
    spec = TrialSpec(objective="pbc", dataset="lab/mine", seeds=(0,))
    point = Point(seed=0, step=0, arm="default", returns=[returns], normalized_return=score)
    record = Result(
        key=spec.key,
        suite="lab",
        spec=spec,
        status="ok",
        points=[point],
        environment=environment,
    )
    write_json(record, tmp_path / "lab" / f"{record.key}.json")
    target = publish_results(tmp_path / "lab", tmp_path / "board")
    (entry,) = read_suite_results(target, strict=True).entries
    ((_, published),) = entry.curves["default"][0]
    assert published == pytest.approx(score, abs=0.01)


def test_results_of_two_machines_are_merged(raw, tmp_path):
    paths = sorted(path for path in raw.glob("*.json") if path.name != "manifest.json")
    for name, half in (("a", paths[::2]), ("b", paths[1::2])):
        folder = tmp_path / name / "d4rl"
        folder.mkdir(parents=True)
        for path in [*half, raw / "manifest.json"]:
            shutil.copy(path, folder)
        publish_results(folder, tmp_path / "board")
    assert tables(tmp_path / "board" / "results" / "d4rl") == tables(raw)


def test_a_failed_trial_does_not_replace_a_published_score(raw, tmp_path):
    target = publish_results(raw, tmp_path / "board")
    scored = {}
    for path in raw.glob("*.json"):
        if path.name != "manifest.json":
            record = read_json(Result, path)
            if record.status == "ok":
                scored[path.name] = (target / path.name).read_bytes()
            failed = Result.unfinished(record.spec, record.suite, "timeout", "it took too long")
            write_json(failed, path)
    publish_results(raw, tmp_path / "board")
    assert scored
    assert {name: (target / name).read_bytes() for name in scored} == scored


def test_bad_files_are_not_published(raw, tmp_path):
    (raw / "zz.json").write_text("{")
    with pytest.warns(UserWarning, match=r"zz\.json"):
        target = publish_results(raw, tmp_path / "board")
    assert not (target / "zz.json").exists()
    with pytest.raises(InvalidDataError, match=r"zz\.json"):
        publish_results(raw, tmp_path / "board", strict=True)


def test_a_folder_without_results_is_an_error(raw, tmp_path):
    (raw.parent / "alone").mkdir()
    shutil.copy(raw / "manifest.json", raw.parent / "alone")
    for folder in (raw.parent, raw.parent / "alone"):
        with pytest.raises(InvalidDataError, match="no results"):
            publish_results(folder, tmp_path / "board")
    with pytest.raises(InvalidDataError, match=r"RESULTS/SUITE, such as .*raw/alone"):
        publish_results(raw.parent, tmp_path / "board")
    assert not (tmp_path / "board").exists()
