"""Studies: their variants are valid, and the tables in the pages follow from the result files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from doc_blocks import ROOT

STUDIES = ROOT / "docs" / "studies"
NAMES = sorted(path.stem for path in STUDIES.glob("*.toml"))


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("study", STUDIES / "study.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["study"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_resolves_to_trials_of_its_own(module: ModuleType, name: str) -> None:
    study = module.load(name)
    keys = [spec.key for variant in study.variants for spec in study.suite(variant).specs()]
    assert len(set(keys)) == len(keys)
    assert len({variant.name for variant in study.variants}) == len(study.variants)


def test_pages_follow_from_results(module: ModuleType, tmp_path: Path) -> None:
    pages = sorted((ROOT / "docs").glob("*.md"))
    copies = []
    for page in pages:
        copies.append(tmp_path / page.name)
        copies[-1].write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    changed = module.write_tables(copies)
    assert changed == [], "run `python docs/studies/study.py table`"


def test_a_table_holds_what_was_run(module: ModuleType, tmp_path: Path) -> None:
    study = module.Study(
        name="toy",
        datasets=("embedded/hopper-medium-replay-v0",),
        seeds="0-1",
        objective="pbc",
        variants=(
            {"name": "first", "preset": "tiny", "settings": {"steps": 1}},
            {"name": "second", "preset": "tiny", "settings": {"steps": 2}},
            {"name": "missing", "preset": "tiny", "settings": {"steps": 3}},
        ),
    )
    object.__setattr__(study, "folder", str(tmp_path / "toy"))
    assert module.run(study, workers=1, only=["first", "second"])
    first, second, missing = module.table(study).splitlines()[2:]
    assert "±" in first
    assert first.split("|")[4].strip() == "–"
    assert " to " in second.split("|")[4]
    assert set(missing.split("|")[2:-1]) == {" – "}
