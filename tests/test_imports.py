"""The house: imports point downward, rooms know what they may, listings stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.paths import ROOT

from obdbench.cli.main import LISTS

ROOMS = (
    *("cli", "report", "bench", "evaluation", "distill", "objectives"),
    *("collect", "teachers", "data", "envs", "policies"),
)
PLAIN = ("registry", "errors", "fetch", "version")
LAZY = "registry"  # names its targets as strings, which it imports when they are asked for
LINES = 400


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


FILES = {module_of(path): path for path in sorted((ROOT / "obdbench").rglob("*.py"))}


@cache
def imports(module: str) -> tuple[tuple[str, int], ...]:
    """What a module imports, inside functions and for types too, with lines.

    A string that names a module, as ``import_module`` takes it, counts as an import.
    """
    return tuple(_imports(ast.parse(FILES[module].read_text())))


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield (inner if inner in FILES else node.module), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = node.value.partition(":")[0]
            if named in FILES and named != "obdbench":
                yield named, node.lineno


def room(module: str) -> str:
    """The part of the package that a module belongs to; what the package itself offers is ``""``.

    The command line is one room of several files.
    """
    _, _, inner = module.partition(".")
    first = inner.partition(".")[0]
    return "cli" if first.startswith("cli") or first == "__main__" else first


def test_every_module_has_its_room() -> None:
    assert {room(module) for module in FILES} == {"", *ROOMS, *PLAIN}


def test_the_reader_of_imports_sees_them_all() -> None:
    code = (
        "import os\nfrom obdbench.bench import runner\nfrom obdbench.errors import ObdError\n"
        "def f():\n    import ray.tune\n    import_module('obdbench.reporting.statistics')\n"
        "    g('obdbench.datasets.d4rl:load')\n"
    )
    assert list(_imports(ast.parse(code))) == [
        *(("os", 1), ("obdbench.execution.run", 2), ("obdbench.errors", 3), ("ray.tune", 5)),
        *(("obdbench.reporting.statistics", 6), ("obdbench.datasets.d4rl", 7)),
    ]


@pytest.mark.parametrize("module", FILES)
def test_imports_point_downward(module: str) -> None:
    """``cli → report → bench → … → policies``, and every room may use the plain files."""
    own = room(module)
    if own in ("", LAZY):
        return
    place = ROOMS.index(own) if own in ROOMS else len(ROOMS)
    upward = [
        f"line {line}: {target}"
        for target, line in imports(module)
        if target.partition(".")[0] == "obdbench"
        if room(target) in ROOMS and ROOMS.index(room(target)) < place
    ]
    assert not upward


@pytest.mark.parametrize("module", FILES)
def test_each_room_knows_only_what_it_may(module: str) -> None:
    used = {target for target, _ in imports(module)}
    packages = {target.partition(".")[0] for target in used}
    if module != "obdbench.execution.executors.ray_tune":
        assert "ray" not in packages
    if room(module) == "report":  # reads results, runs nothing
        running = {"runner", "local", "ray_tune", "ray_search"}
        running |= {"trial", "worker", "tune", "job", "desk"}
        assert not used & {f"obdbench.bench.{name}" for name in running}
        assert "torch" not in packages
    if room(module) == "objectives":  # know nothing of optimizers
        assert "obdbench.policies.optimizers" not in used
        assert "obdbench.policies.cloning" not in used
    assert not packages & {"baselines", "examples", "tests", "pickle", "dill", "cloudpickle"}


def test_listing_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys\nfrom obdbench.cli.main import main\n"
        f"for what in {LISTS!r}:\n"
        "    try:\n        main(['list', what])\n"
        "    except SystemExit as ended:\n        assert ended.code == 0\n"
        "heavy = {'torch', 'ray', 'pandas', 'mujoco', 'matplotlib', 'h5py'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SOURCES = sorted(
    path
    for folder in ("obdbench", "baselines", "examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
)


def test_files_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in SOURCES
        if (lines := len(path.read_text().splitlines())) > LINES
    ]
    assert SOURCES
    assert not long


ERRORS = {
    *("ObdError", "InvalidSettingError", "InvalidDataError", "FetchError", "UnknownNameError"),
    *("DuplicateNameError", "DivergedError", "TrialTimeoutError"),
}


@pytest.mark.parametrize("module", FILES)
def test_every_error_says_what_to_do(module: str) -> None:
    """Cause and remedy. One argument alone is a message that came whole from elsewhere."""
    silent = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(FILES[module].read_text()))
        if isinstance(node, ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id in ERRORS
        if len(node.args) < 2 and not (node.args and isinstance(node.args[0], ast.Attribute))
    ]
    assert not silent
