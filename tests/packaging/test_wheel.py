"""Content of the wheel and the source distribution; use of the wheel in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT

from obdbench.registry import D4RL_NAMES
from obdbench.version import __version__

NO_INDEX = (
    "No matching distribution",
    "Could not find a version",
    "connection",
    "Temporary failure",
)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    assert path.name == f"obdbench-{__version__}-py3-none-any.whl"
    return path


@pytest.fixture(scope="module")
def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        return set(archive.namelist())


def test_wheel_contains_exactly_the_package(members: set[str]) -> None:
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "obdbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in members if ".dist-info/" not in name} == package


@pytest.mark.parametrize(
    "name",
    [
        "obdbench/py.typed",
        "obdbench/reporting/tables/paper_tables.json",
        "obdbench/reporting/site/templates/leaderboard.html",
        "obdbench/reporting/site/templates/page.css",
        "obdbench/reporting/site/templates/page.js",
        "obdbench/teachers/published.json",
        "obdbench/datasets/references.json",
        *(
            f"obdbench/experiments/suites/{s}.toml"
            for s in ("smoke", "quick", "embedded", "embedded-protocols", "embedded-size", "d4rl")
        ),
        *(
            f"obdbench/datasets/files/{name}-v1{ending}"
            for name in D4RL_NAMES
            for ending in (".npz", ".json", "-teacher.safetensors", "-teacher.json")
        ),
    ],
)
def test_wheel_contains(name: str, members: set[str]) -> None:
    assert name in members


def test_wheel_metadata_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"obdbench-{__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert "obdbench = obdbench.cli.main:main" in entry_points
    for line in ("Requires-Python: >=3.11", "License-Expression: MIT", "Provides-Extra: ray"):
        assert line in metadata
    assert "Requires-Dist: torch>=2.6" in metadata


def test_source_distribution_is_complete(distributions: Path) -> None:
    """It contains tests, reference data, pages and results, so that the pages can be checked."""
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = ["Makefile", "constraints.txt", "README.md", "SECURITY.md", "mkdocs.yml"]
    expected += [
        "CITATION.cff",
        "tests/conftest.py",
        "baselines/bc.py",
        "examples/my_objective.py",
        "leaderboards/embedded.md",
    ]
    assert set(expected) <= names
    assert any(name.startswith("leaderboards/results/embedded/") for name in names)
    assert not any(
        "__pycache__" in name or name.startswith((".venv", "results/")) for name in names
    )


@pytest.mark.network
def test_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """A run and its leaderboard with pinned dependencies, an empty home and another folder."""
    venv, home, folder = tmp_path / "venv", tmp_path / "home", tmp_path / "work"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    command = [venv / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--quiet", "-c", ROOT / "constraints.txt", wheel]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in NO_INDEX):
        pytest.skip(f"no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    home.mkdir()
    folder.mkdir()
    environment = {"PATH": f"{venv / 'bin'}{os.pathsep}/usr/bin:/bin", "HOME": str(home)}
    environment |= {"OMP_NUM_THREADS": "1", "OBDBENCH_OFFLINE": "1"}

    def call(*words: str) -> str:
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert call("obdbench", "--version").strip() == f"obdbench {__version__}"
    assert str(venv) in call("python", "-c", "import obdbench; print(obdbench.__file__)")
    assert call("python", "-c", "import importlib.util as u; print(u.find_spec('ray'))") == "None\n"
    assert "2 ok in" in call("obdbench", "run", "smoke")
    call("obdbench", "leaderboard", "--publish", "results/smoke", "--to", "pages")
    assert "| pbc |" in (folder / "pages" / "smoke.md").read_text()
    code = (
        "import obdbench; print(*(len(obdbench.load_dataset(f'embedded/{n}-v1')) for n in NAMES))"
    )
    sizes = call("python", "-c", code.replace("NAMES", repr(D4RL_NAMES))).split()
    assert len(sizes) == 9
    assert min(map(int, sizes)) >= 100_000
    code = (
        "from obdbench.reporting.tables.paper_tables import load_paper_tables\n"
        "print(len(load_paper_tables()))"
    )
    assert int(call("python", "-c", code)) > 0
    home_files = {path.name for path in home.rglob("*") if path.is_file()}
    assert not home_files, "a file was written to the home folder"
