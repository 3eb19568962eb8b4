"""Code blocks and settings files in the documentation work; statements about the code are true."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.command_server import CommandServer
from support.doc_blocks import copy_checkout, read_blocks, run_code, run_page, runnable_blocks
from support.paths import ROOT

PAGES = [
    page
    for page in (
        "docs/quickstart.md",
        *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/tutorials/*.md")),
        "docs/how-to/extend.md",
        "docs/how-to/share.md",
        "docs/methods.md",
        "docs/data.md",
    )
    if runnable_blocks(page)
]
EXTEND = "docs/how-to/extend.md"
CHECKS = """
from obdbench.evaluation.protocol import make_protocol
from obdbench.policies.networks import get_architecture

assert make_protocol("patient").settings()["steps"] == 1000
assert get_architecture("mlp4-narrow").width == 64
assert len(synset) == 16
assert len(obdbench.distill(dataset, teacher, "pbc", preset="tiny", init="first", steps=1)) == 16
mixed = obdbench.distill(dataset, teacher, "pbc", preset="tiny", state_source="mixed", steps=1)
plain = obdbench.distill(dataset, teacher, "pbc", preset="tiny", steps=1)
assert mixed.card["settings"]["state_source"] == "mixed"
found = obdbench.distill(dataset, teacher, "pbc", preset="tiny", solver="evolution", steps=1)
assert (found.states != plain.states).any()
assert (mixed.states != plain.states).any()
"""


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_a_page_run_in_order(
    page: str, tmp_path: Path, command_server: CommandServer
) -> None:
    checkout = copy_checkout(tmp_path, command_server)
    for code, done in run_page(page, checkout, command_server):
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_names_registered_in_the_guide_are_known(
    tmp_path: Path, command_server: CommandServer
) -> None:
    code = [b.runnable_code() or "" for b in runnable_blocks(EXTEND) if b.language == "python"]
    assert len(code) == 9
    checkout = copy_checkout(tmp_path, command_server)
    done = run_code("\n".join([*code, CHECKS]), checkout, command_server, shell=False)
    assert done.returncode == 0, done.stderr


def test_entry_points_in_the_guide_are_those_of_the_example_package() -> None:
    (entry_points,) = (b.code for b in read_blocks(EXTEND) if b.language == "toml")
    package = tomllib.loads((ROOT / "examples/own_package/pyproject.toml").read_text())
    for group, names in tomllib.loads(entry_points)["project"]["entry-points"].items():
        assert names.items() <= package["project"]["entry-points"][group].items()


def test_preset_and_suite_in_the_guide_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from obdbench.experiments.presets import load_preset
    from obdbench.experiments.suite import load_suite

    page = "docs/how-to/presets-and-suites.md"
    preset_text, suite_text = (b.code for b in read_blocks(page) if b.language == "toml")
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    (tmp_path / "own.toml").write_text(preset_text)
    (tmp_path / "grid.toml").write_text(suite_text)
    preset = load_preset("own")
    assert preset.resolve({}).steps == 800
    assert preset.objectives == {"av-pbc": {"beta": 0.05}}
    specs = load_suite(str(tmp_path / "grid.toml")).specs()
    assert len(specs) == 2 * 3 * 2 * 2  # datasets, objectives, protocols, groups of seeds
    assert {spec.settings.pairs for spec in specs} == {128}


def test_targets_named_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"make ([a-z][a-z-]*)", text))
    assert {"install", "lint", "typecheck", "test", "docs", "reliability"} <= targets
    assert [target for target in sorted(targets) if f"\n{target}:" not in makefile] == []


def test_import_order_in_contributing_lists_every_package() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    order = text.partition("in this order of packages: ")[2].partition(".")[0].split(", ")
    packages = {path.parent.name for path in (ROOT / "obdbench").glob("*/__init__.py")}
    assert set(order) == packages


def test_bounds_in_security_page_are_those_of_the_code() -> None:
    from obdbench.datasets import arrays
    from obdbench.distillation import synset
    from obdbench.experiments import presets
    from obdbench.results import record
    from obdbench.teachers import checkpoint

    mebi = 1024 * 1024
    text = " ".join((ROOT / "SECURITY.md").read_text().split())
    for bound in (
        f"at most {arrays.MAX_BYTES / (1024 * mebi):g} GiB of arrays per file",
        f"{arrays.MAX_CHUNK_BYTES // mebi} MiB per chunk",
        f"at most {checkpoint.MAX_BYTES // mebi} MiB and {checkpoint.MAX_ENTRIES:,} entries",
        f"at most {synset.MAX_BYTES // mebi} MiB per synset",
        f"at most {record.MAX_BYTES // mebi} MiB with a strict schema",
        f"at most {presets.MAX_TOML // mebi} MiB; unknown keys",
    ):
        assert bound in text


def test_submission_of_results_is_described_once() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert "obdbench leaderboard --publish results/embedded" in contributing
    assert "manifest.json" in contributing
    leaderboards = (ROOT / "leaderboards" / "README.md").read_text()
    assert "CONTRIBUTING.md#submit-results" in leaderboards
    assert "--publish" not in leaderboards


def test_every_public_name_has_a_reference_entry() -> None:
    import obdbench

    text = (ROOT / "docs/reference/python.md").read_text()
    documented = set(re.findall(r"^::: obdbench\.(\w+)$", text, re.MULTILINE))
    assert documented == set(obdbench.__all__) - {"__version__"}


def test_version_is_the_same_everywhere() -> None:
    from obdbench.version import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    "page",
    [
        *sorted(ROOT.glob("*.md")),
        *sorted(ROOT.glob("leaderboards/*.md")),
        *sorted(ROOT.glob("leaderboards/*/*.md")),
        *(p for p in sorted(ROOT.glob("docs/**/*.md")) if p.name != "reliability.md"),
    ],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_no_line_is_longer_than_300_characters_or_400_in_a_table(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    too_long = [line for line in lines if len(line) > (400 if line.startswith("|") else 300)]
    assert [line[:60] for line in too_long] == []


def test_site_builds_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "reference" / "python.html").read_text()
    assert 'id="obdbench.distill"' in reference
    commands = (tmp_path / "reference" / "command-line.html").read_text()
    assert "Usage: obdbench run" in commands
