"""Every code block of the README is run, in a folder like a fresh clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.doc_blocks import ROOT, RUNNABLE, Block, blocks

README = [block for block in blocks("README.md") if block.language in RUNNABLE]
CLONE = ("Makefile", "constraints.txt", "pyproject.toml", "examples", "leaderboards")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader's working directory holds, and an ``obdbench`` that runs this tree."""
    folder = tmp_path_factory.mktemp("readme")
    for name in CLONE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = folder / "bin" / "obdbench"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m obdbench "$@"\n')
    command.chmod(0o755)
    return folder


def run(commands: list[str], clone: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{clone / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OBDBENCH_OFFLINE": "1",
    }
    return subprocess.run(
        commands, cwd=clone, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("block", README, ids=lambda block: block.name)
def test_block_runs(block: Block, clone: Path) -> None:
    code = block.commands()
    if code is None:
        pytest.skip(block.what)
    shell = block.language == "bash" or block.kind == "instead"
    command = ["bash", "-euo", "pipefail", "-c", code] if shell else [sys.executable, "-c", code]
    done = run(command, clone)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    if "compare" in code:
        assert "my-objective against av-pbc" in done.stdout
    if "validate" in code:
        assert "my-objective: sound" in done.stdout
    if "my-leaderboards" in code:
        page = (clone / "my-leaderboards" / "smoke.md").read_text()
        assert "| pbc |" in page
        assert "| random |" in page
    if "synset.save" in code:
        assert (clone / "hopper.json").is_file()
        assert (clone / "hopper.hdf5").stat().st_size > 0


def test_every_command_is_run_by_some_means() -> None:
    assert len(README) >= 6
    assert not [block.name for block in README if block.kind == "skip"]


def test_own_objective_is_the_example() -> None:
    example = (ROOT / "examples" / "my_objective.py").read_text()
    assert example in [block.code for block in README if block.language == "python"]


def test_own_objective_takes_fifteen_lines() -> None:
    lines = (ROOT / "examples" / "my_objective.py").read_text().splitlines()
    own = lines[next(i for i, line in enumerate(lines) if line.startswith("@")) :]
    assert sum(bool(line.strip()) for line in own) <= 15


def test_leaderboard_markers_can_be_filled() -> None:
    from obdbench.reporting.pages import fill_blocks

    text = (ROOT / "README.md").read_text()
    filled = fill_blocks(text, {"embedded/main": "a table"}, "README.md")
    assert "begin embedded/main -->\n\na table\n\n<!-- obdbench:end embedded/main" in filled


def test_figures_quoted_from_the_papers_are_theirs() -> None:
    from obdbench.reporting.paper_tables import load_paper_tables

    table = next(t for t in load_paper_tables() if t.name == "table 1")
    text = " ".join((ROOT / "README.md").read_text().split())
    teachers, synsets = table.average("offrl-whole"), table.average("av-pbc")
    assert f"average {teachers:.1f} over nine datasets" in text
    assert f"synsets of 256 pairs {synsets:.1f}" in text
