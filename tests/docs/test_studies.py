"""Studies have valid variants, and tables in the pages follow from result files."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.command_server import CommandServer
from support.paths import ROOT

from obdbench.errors import UnknownNameError
from obdbench.reporting.blocks import fill_blocks, list_blocks

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
    keys = [spec.key for variant in study.variants for spec in study.suite(variant).specs()]
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


@pytest.mark.parametrize("name", ["action_errors", "density", "label_solving", "tangent_kernels"])
def test_tables_of_programs_follow_from_results(name: str, tmp_path: Path) -> None:
    study, page = load_module(name).STUDY, tmp_path / "page.md"
    text = study.page.read_text(encoding="utf-8")
    assert "| dataset |" in dict(list_blocks(text))[study.name]
    page.write_text(fill_blocks(text, {study.name: ""}, page.name), encoding="utf-8")
    replace(study, page=page).main(["table"])
    assert page.read_text(encoding="utf-8") == text, f"run `python docs/studies/{name}.py table`"


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
def test_table_shows_variants_with_results(module: ModuleType, tmp_path: Path) -> None:
    study = toy_study(
        module,
        tmp_path / "toy",
        variants=(
            {"name": "first", "preset": "tiny", "settings": {"steps": 1}},
            {"name": "second", "preset": "tiny", "settings": {"steps": 2}},
            {"name": "missing", "preset": "tiny", "settings": {"steps": 3}},
        ),
    )
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
    groups = {"seeds": "0-1,4", "seeds_per_trial": 2}
    separate = toy_study(module, tmp_path / "separate", variants=variants, **groups)
    first = separate.model_copy(update={"seeds": "0-1"})
    assert module.run_study(first, workers=1)
    assert " – " in module.format_table(separate).splitlines()[2].split("|")[2]
    with pytest.raises(SystemExit, match="no results"):
        curves.draw_curves(separate, tmp_path)
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
    ((_, end),) = curves.score_curve(results)
    at_end = [p.normalized_return for r in results for p in r.points if p.step == 2]
    assert end == pytest.approx(sum(at_end) / 3)


def test_missing_reference_has_no_difference(module: ModuleType) -> None:
    scores = {"first": {0: 3.0, 1: 4.0}, "second": {0: 5.0, 1: 6.5}}
    assert module.format_difference(scores, {"first": {0: 2.0, 1: 3.5}}) == "–"
    assert module.format_difference(scores, scores).startswith("0.0 (")


@pytest.mark.usefixtures("in_process")
def test_curves_follow_from_results(module: ModuleType, curves: ModuleType, tmp_path: Path) -> None:
    settings = {"steps": 4, "evaluate_at": (0, 0.5, 1), "guard_interval": 1}
    study = toy_study(
        module,
        tmp_path / "curved",
        variants=(
            {"name": "run", "preset": "tiny", "settings": settings},
            {"name": "not run", "preset": "tiny", "settings": {"steps": 5}},
        ),
    )
    assert module.run_study(study, workers=1, only=["run"])
    (results,) = study.results(study.variants[0]).values()
    (file,) = [p for p in (tmp_path / "curved").glob("*.json") if p.name != "manifest.json"]
    record = json.loads(file.read_text())
    (half, middle), (whole, score) = curves.score_curve(results)
    seeds = len(record["spec"]["seeds"])
    start, *later = [seconds / seeds for _, seconds in record["timing"]["curve"]]
    assert [half, whole] == later
    for step, value in ((2, middle), (4, score)):
        at = [p["normalized_return"] for p in record["points"] if p["step"] == step]
        assert value == pytest.approx(sum(at) / len(at))
    seconds, missed = zip(*curves.missed_variance_curve(results), strict=True)
    assert [seconds[1], seconds[3]] == [half, whole]
    assert seconds[0] == pytest.approx((start + half) / 2)
    last = [checks[-1]["missed_variance"] for checks in record["student_checks"].values()]
    assert missed[-1] == pytest.approx(sum(last) / len(last))
    drawn = curves.draw_curves(study, tmp_path).read_text()
    assert drawn.startswith("<?xml")
    assert curves.draw_curves(study, tmp_path).read_text() == drawn
