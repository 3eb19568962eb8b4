"""Code and settings files printed in the other pages: they run, parse and hold what they say."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.doc_blocks import ROOT, blocks

EXTENDING = blocks("docs/extending.md")
AFTERWARDS = """
from obdbench.validation.objective_contract import validate
from obdbench.evaluation.protocol import make_protocol
from obdbench.policies.networks import architecture_named

(report,) = validate("clipped-dbc", {"bound": 0.25})
assert report.passed, report.text()
assert make_protocol("patient").settings()["steps"] == 1000
assert get_architecture("mlp4-narrow").width == 64
assert len(synset) == 16
"""


def test_what_extending_registers_works(tmp_path: Path) -> None:
    code = [block.commands() or "" for block in EXTENDING if block.language == "python"]
    assert len(code) == 5
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OBDBENCH_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*code, AFTERWARDS])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_settings_files_of_extending_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from obdbench.experiments import presets
    from obdbench.experiments.suite import load_suite

    entry_points, preset, suite = (b.code for b in EXTENDING if b.language == "toml")
    monkeypatch.setenv("OBDBENCH_PRESETS", str(tmp_path))
    (tmp_path / "own.toml").write_text(preset)
    (tmp_path / "grid.toml").write_text(suite)
    found = presets.load_preset("own")
    assert found.resolve({}).steps == 800
    assert found.objectives == {"av-pbc": {"beta": 0.05}}
    specs = load_suite(str(tmp_path / "grid.toml")).specs()
    assert len(specs) == 2 * 3 * 2
    assert {spec.settings.pairs for spec in specs} == {128}

    package = tomllib.loads((ROOT / "examples/own_package/pyproject.toml").read_text())
    for group, names in tomllib.loads(entry_points)["project"]["entry-points"].items():
        assert names.items() <= package["project"]["entry-points"][group].items()


def test_contributing_names_targets_that_exist() -> None:
    (block,) = [b for b in blocks("CONTRIBUTING.md") if b.language == "bash"]
    makefile = (ROOT / "Makefile").read_text()
    targets = [line.split()[1] for line in block.code.splitlines()]
    assert targets == ["install", "lint", "typecheck", "test"]
    for target in [*targets, "test-slow", "benchmark", "coverage"]:
        assert f"\n{target}:" in makefile


def test_order_of_rooms_is_that_of_the_packages() -> None:
    rooms = " ".join((ROOT / "CONTRIBUTING.md").read_text().split()).split("`cli → ")[1]
    named = [room.strip() for room in rooms.partition("`")[0].split("→")]
    packages = {path.parent.name for path in (ROOT / "obdbench").glob("*/__init__.py")}
    assert set(named) == packages


def test_bounds_of_security_are_those_of_the_code() -> None:
    from obdbench.datasets import arrays
    from obdbench.distillation import synset
    from obdbench.experiments import presets
    from obdbench.results import record
    from obdbench.teachers import checkpoint

    mebi = 1024 * 1024
    text = " ".join((ROOT / "SECURITY.md").read_text().split())
    for said in (
        f"{arrays.MAX_BYTES / (1024 * mebi):g} GiB for all arrays of a file",
        f"{arrays.MAX_CHUNK // mebi} MiB a chunk",
        f"at most {checkpoint.MAX_BYTES // mebi} MiB in all and {checkpoint.MAX_ENTRIES:,} entries",
        f"a synset has at most {synset.MAX_BYTES // mebi} MiB",
        f"at most {record.MAX_BYTES // mebi} MiB, a strict schema",
        f"at most {presets.MAX_TOML // mebi} MiB, unknown keys refused",
    ):
        assert said in text


@pytest.mark.parametrize("page", ["docs/objectives.md"])
def test_code_of_other_pages_runs(page: str, tmp_path: Path) -> None:
    code = [block.commands() or "" for block in blocks(page) if block.language == "python"]
    assert code
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OBDBENCH_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_both_pages_say_how_results_are_submitted() -> None:
    for page in ("CONTRIBUTING.md", "leaderboards/README.md"):
        text = (ROOT / page).read_text()
        assert "obdbench leaderboard --publish results/embedded" in text
        assert "manifest.json" in text
        assert "--out leaderboards/results" not in text
