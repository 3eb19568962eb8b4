"""Studies have valid variants, and tables in the pages follow from result files."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.command_server import CommandServer
from support.paths import ROOT

from obdbench.distillation.settings import resolve_settings
from obdbench.errors import UnknownNameError
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.suite_results import ResultEntry, SuiteResults
from obdbench.results.record import Result

STUDIES = ROOT / "docs" / "studies"
NAMES = sorted(path.stem for path in STUDIES.glob("*.toml"))


def load_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_module("study")


@pytest.fixture(scope="module")
def curves(module: ModuleType) -> ModuleType:
    return load_module("curves")


@pytest.mark.parametrize("name", NAMES)
def test_variants_are_distinct_trials(module: ModuleType, name: str) -> None:
    study = module.load_study(name)
    suites = [suite for variant in study.variants for suite in study.suites(variant)]
    keys = [spec.key for suite in suites for spec in suite.specs()]
    assert len(set(keys)) == len(keys)
    assert len({variant.name for variant in study.variants}) == len(study.variants)


def test_study_tables_follow_from_results(module: ModuleType, tmp_path: Path) -> None:
    pages = sorted((ROOT / "docs").glob("*.md"))
    copies = []
    for page in pages:
        copies.append(tmp_path / page.name)
        copies[-1].write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    changed = module.write_tables(copies)
    assert changed == [], "run `python docs/studies/study.py table`"


def test_arm_table_follows_from_results(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module is sys.modules["study"]
    arms, page = load_module("arms"), tmp_path / "findings.md"
    text = arms.PAGE.read_text(encoding="utf-8")
    if "<!-- arms:begin -->" not in text:
        pytest.skip("findings.md has no table of arms")
    page.write_text(text.replace("| mlp5 |", "| mlp7 |"), encoding="utf-8")
    monkeypatch.setattr(arms, "PAGE", page)
    arms.main()
    assert page.read_text(encoding="utf-8") == text, "run `python docs/studies/arms.py`"


def test_arm_table_has_a_row_per_arm_and_a_column_per_objective(module: ModuleType) -> None:
    arms = load_module("arms")

    def entry(protocol: str, scores: dict[int, float]) -> ResultEntry:
        spec = TrialSpec(
            dataset="embedded/hopper-medium-v1",
            objective="pbc",
            protocol=protocol,
            settings=resolve_settings("fast"),
            seeds=tuple(scores),
        )
        record = Result(key=spec.key, suite="s", spec=spec, status="ok")
        curves = {protocol: {seed: ((0, 1.0), (9, score)) for seed, score in scores.items()}}
        return ResultEntry(f"{spec.key}.json", record, curves)

    entries = (entry("default", {0: 10.0, 1: 20.0}), entry("ensemble", {0: 12.0, 1: 24.0}))
    header, _, row = arms.format_table(SuiteResults("s", entries)).splitlines()
    assert header == "| students | dbc | pbc | av-pbc | sdw |"
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[2].startswith("18.0, +3.0 (")
    assert cells == ["ensemble", "–", cells[2], "–", "–"]


def test_arm_is_compared_with_default_students_of_the_same_seeds(module: ModuleType) -> None:
    arms = load_module("arms")
    default = {"a": {0: 10.0, 1: 20.0, 2: 99.0}, "b": {0: 30.0, 1: 30.0}}
    scores = {"a": {0: 12.0, 1: 24.0}, "b": {0: 31.0, 1: 33.0}}
    assert arms.format_arm(scores, default).startswith("25.0, +2.5 (")
    assert arms.format_arm({"a": scores["a"]}, default) == "–"


@pytest.mark.usefixtures("in_process")
def test_table_shows_variants_with_results(module: ModuleType, tmp_path: Path) -> None:
    study = module.Study(
        name="toy",
        datasets=("embedded/hopper-medium-replay-v1",),
        seeds="0-1",
        objective="pbc",
        variants=(
            {"name": "first", "preset": "tiny", "settings": {"steps": 1}},
            {"name": "second", "preset": "tiny", "settings": {"steps": 2}},
            {"name": "missing", "preset": "tiny", "settings": {"steps": 3}},
        ),
    )
    object.__setattr__(study, "folder", str(tmp_path / "toy"))
    assert module.run_study(study, workers=1, only=["first", "second"])
    first, second, missing = module.format_table(study).splitlines()[2:]
    assert "±" in first
    assert first.split("|")[4].strip() == "–"
    assert " to " in second.split("|")[4]
    assert set(missing.split("|")[2:-1]) == {" – "}
    with pytest.raises(UnknownNameError, match="thrid"):
        module.run_study(study, workers=1, only=["thrid"])


@pytest.mark.parametrize("words", [["study.py", "run", "prest"], ["curves.py", "prest"]])
def test_unknown_study_is_a_one_line_error(
    words: list[str], tmp_path: Path, command_server: CommandServer
) -> None:
    done = command_server.run_script(STUDIES / words[0], *words[1:], folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "There is no study named 'prest'. Did you mean preset?\n"


def toy_study(module: ModuleType, folder: Path, **more: Any) -> Any:
    """A study that runs in seconds, with its results in its own folder."""
    return module.Study(
        name=folder.name,
        datasets=("embedded/hopper-medium-replay-v1",),
        objective="pbc",
        folder=str(folder),
        scoring={"policies": 1, "episodes": 1},
        **{"seeds": "0-1", **more},
    )


@pytest.mark.usefixtures("in_process")
def test_pairs_are_compared_and_different_builds_are_noted(
    module: ModuleType, tmp_path: Path
) -> None:
    study = toy_study(
        module,
        tmp_path / "paired",
        pairs=True,
        variants=[
            {"name": str(steps), "preset": "tiny", "settings": {"steps": steps}}
            for steps in (1, 2, 3, 4)
        ],
    )
    assert module.run_study(study, workers=1)
    table = module.format_table(study)
    assert "difference to row above" in table
    assert "different files" not in table
    assert [" to " in line.split("|")[4] for line in table.splitlines()[2:]] == [False, True] * 2
    file = next(p for p in (tmp_path / "paired").glob("*.json") if p.name != "manifest.json")
    content = json.loads(file.read_text())
    content["dataset"]["checksum"] = "0" * 64
    file.write_text(json.dumps(content))
    assert "different files" in module.format_table(study)


@pytest.mark.usefixtures("in_process")
def test_separate_trials_of_one_variant_form_one_row(
    module: ModuleType, curves: ModuleType, tmp_path: Path
) -> None:
    variants = [{"name": "run", "preset": "tiny", "settings": {"steps": 2}}]
    separate = toy_study(module, tmp_path / "separate", seeds=["0-1", "4"], variants=variants)
    first = separate.model_copy(update={"seeds": "0-1"})
    assert module.run_study(first, workers=1)
    assert " – " in module.format_table(separate).splitlines()[2].split("|")[2]
    assert curves.read_curves(separate) == {}
    assert module.run_study(separate, workers=1)
    (results,) = separate.results(separate.variants[0]).values()
    assert list(module.seed_scores(results)) == [0, 1, 4]
    mean = sum(module.seed_scores(results).values()) / 3
    assert (
        module.format_table(separate)
        .splitlines()[2]
        .split("|")[2]
        .strip()
        .startswith(f"{mean:.1f} ±")
    )
    ((_, _, start), _) = curves.read_curves(separate)["run"]
    at_start = [p.normalized_return for r in results for p in r.points if p.step == 0]
    assert start == pytest.approx(sum(at_start) / 3)


def test_missing_reference_has_no_difference(module: ModuleType) -> None:
    scores = {"first": {0: 3.0, 1: 4.0}, "second": {0: 5.0, 1: 6.5}}
    assert module.format_difference(scores, {"first": {0: 2.0, 1: 3.5}}) == "–"
    assert module.format_difference(scores, scores).startswith("0.0 (")


@pytest.mark.usefixtures("in_process")
def test_curves_follow_from_results(module: ModuleType, curves: ModuleType, tmp_path: Path) -> None:
    study = toy_study(
        module,
        tmp_path / "curved",
        variants=(
            {"name": "run", "preset": "tiny", "settings": {"steps": 4, "evaluate_at": (0, 0.5, 1)}},
            {"name": "not run", "preset": "tiny", "settings": {"steps": 5}},
        ),
    )
    assert module.run_study(study, workers=1, only=["run"])
    curve_points = curves.read_curves(study)
    assert set(curve_points) == {"run"}
    steps, seconds, scores = zip(*curve_points["run"], strict=True)
    assert steps == (0, 2, 4)
    assert 0.0 == seconds[0] < seconds[1] < seconds[2]
    (file,) = [p for p in (tmp_path / "curved").glob("*.json") if p.name != "manifest.json"]
    points = json.loads(file.read_text())["points"]
    last = [p["normalized_return"] for p in points if p["step"] == 4]
    assert scores[-1] == pytest.approx(sum(last) / len(last))
    drawn = curves.draw_curves(study, tmp_path).read_text()
    assert drawn.startswith("<?xml")
    assert curves.draw_curves(study, tmp_path).read_text() == drawn
