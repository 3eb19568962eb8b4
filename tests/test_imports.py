"""Architecture: imports point downward, files form no cycle, heavy packages load on demand."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from support.paths import ROOT

from obdbench.cli.main import LISTS

LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "cli",
        "sharing",
        "reporting tuning execution",
        "validation",
        "results",
        "experiments",
        "evaluation",
        "distillation",
        "selection",
        "objectives",
        "offline_rl",
        "collection",
        "teachers",
        "datasets",
        "tasks",
        "policies",
        "training_state registry plugins progress_bar io errors version",
    )
)
ROOT_PACKAGE = "obdbench"  # offers the public names, imported on first use
RAY_FILES = ("obdbench.execution.executors.ray", "obdbench.tuning.asha")
OPTIONAL = {
    *("ray", "minari", "d4rl", "stable_baselines3", "matplotlib", "jax", "optax"),
    *("tensorboardX", "wandb", "mlflow", "huggingface_hub"),
}
HEAVY = {
    *("torch", "ray", "numpy", "pandas", "scipy", "matplotlib", "mujoco", "gymnasium", "h5py"),
    *("jinja2", "filelock"),
}
UNSAFE = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
OUTSIDE = {"baselines", "examples", "tests", "tools"}


class Import(NamedTuple):
    """One imported module, and where the import stands."""

    target: str
    line: int
    in_function: bool = False
    for_types: bool = False  # under TYPE_CHECKING
    is_string: bool = False  # a module named in a string, as import_module takes it


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted((ROOT / ROOT_PACKAGE).rglob("*.py"))}


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Every import of a module: at module level, in functions and under TYPE_CHECKING."""
    return tuple(parse_imports(ast.parse(FILES[module].read_text())))


def parse_imports(
    node: ast.AST, in_function: bool = False, for_types: bool = False
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, in_function, for_types)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            assert child.module is not None
            submodules = [f"{child.module}.{alias.name}" for alias in child.names]
            for target in {name if name in FILES else child.module for name in submodules}:
                yield Import(target, child.lineno, in_function, for_types)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            target = child.value.partition(":")[0]
            if target in FILES and target != ROOT_PACKAGE:
                yield Import(target, child.lineno, in_function, for_types, is_string=True)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            is_guard = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from parse_imports(child, in_function or is_function, for_types or is_guard)


def internal_imports(module: str) -> list[Import]:
    """Imports from the project; the lazy targets of the registry and the root do not count."""
    is_lazy = module in (ROOT_PACKAGE, "obdbench.registry")
    return [
        imported
        for imported in imports(module)
        if imported.target in FILES and not (is_lazy and imported.is_string)
    ]


def package(module: str) -> str:
    """The name below ``obdbench`` that a module belongs to; ``__main__`` belongs to ``cli``."""
    _, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    return "cli" if name == "__main__" else name


def layer(module: str) -> int:
    return next(level for level, names in enumerate(LAYERS) if package(module) in names)


MODULES = [module for module in FILES if module != ROOT_PACKAGE]


def test_every_module_belongs_to_a_layer() -> None:
    known = frozenset[str]().union(*LAYERS)
    assert {package(module) for module in MODULES} <= known


def test_the_parser_finds_imports_of_every_form() -> None:
    code = (
        "import os\n"
        "from obdbench.execution import run\n"
        "if TYPE_CHECKING:\n    from obdbench.errors import ObdError\n"
        "def f():\n"
        "    import ray.tune\n"
        "    import_module('obdbench.experiments.spec')\n"
        "    g('obdbench.datasets.d4rl:load')\n"
    )
    assert list(parse_imports(ast.parse(code))) == [
        Import("os", 1),
        Import("obdbench.execution.run", 2),
        Import("obdbench.errors", 4, for_types=True),
        Import("ray.tune", 6, in_function=True),
        Import("obdbench.experiments.spec", 7, in_function=True, is_string=True),
        Import("obdbench.datasets.d4rl", 8, in_function=True, is_string=True),
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module: str) -> None:
    upward = [
        f"line {imported.line}: {imported.target}"
        for imported in internal_imports(module)
        if imported.target != ROOT_PACKAGE and layer(imported.target) < layer(module)
    ]
    assert not upward


def test_no_files_import_each_other() -> None:
    """Imports for types and in functions count."""
    graph = {
        module: {imported.target for imported in internal_imports(module)} - {module}
        for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@cache
def loaded_with(module: str) -> frozenset[str]:
    """Everything that importing a module imports: project modules and top-level packages."""
    loaded: set[str] = set()
    pending = [module if module in FILES else module.partition(".")[0]]
    while pending:
        current = pending.pop()
        if current in loaded:
            continue
        loaded.add(current)
        if current in FILES:
            pending += [
                imported.target if imported.target in FILES else imported.target.partition(".")[0]
                for imported in imports(current)
                if not (imported.in_function or imported.for_types or imported.is_string)
            ]
    return frozenset(loaded)


def packages_imported(module: str) -> set[str]:
    """Top-level packages that a module imports."""
    return {imported.target.partition(".")[0] for imported in imports(module)}


@pytest.mark.parametrize("module", [name for name in MODULES if package(name) == "reporting"])
def test_reporting_runs_nothing(module: str) -> None:
    used = {package(imported.target) for imported in internal_imports(module)}
    assert not used & {"execution", "tuning"}
    assert "torch" not in loaded_with(module)


REPORTING_LAYERS = ("grids", "tables", "rendering", "site", "")  # from bottom to top


def reporting_layer(module: str) -> int:
    """The level of a module of reporting; modules of commands are at the top."""
    name = module.removeprefix("obdbench.reporting").removeprefix(".").partition(".")[0]
    return REPORTING_LAYERS.index(name if name in REPORTING_LAYERS else "")


@pytest.mark.parametrize("module", [name for name in MODULES if package(name) == "reporting"])
def test_imports_within_reporting_point_downward(module: str) -> None:
    used = {i.target for i in internal_imports(module) if package(i.target) == "reporting"}
    assert not {name for name in used if reporting_layer(name) > reporting_layer(module)}


@pytest.mark.parametrize("module", [name for name in MODULES if package(name) == "execution"])
def test_execution_does_not_depend_on_tuning(module: str) -> None:
    assert "tuning" not in {package(imported.target) for imported in internal_imports(module)}


@pytest.mark.parametrize("module", [name for name in MODULES if package(name) == "objectives"])
def test_objectives_do_not_depend_on_cloning(module: str) -> None:
    used = {imported.target for imported in internal_imports(module)}
    assert not used & {"obdbench.policies.optimizers", "obdbench.policies.cloning"}


@pytest.mark.parametrize("module", FILES)
def test_ray_stays_in_its_executor_and_its_scheduler(module: str) -> None:
    assert module.startswith(RAY_FILES) or "ray" not in packages_imported(module)


@pytest.mark.parametrize("module", FILES)
def test_the_package_imports_nothing_unsafe_and_nothing_outside_it(module: str) -> None:
    assert not packages_imported(module) & (UNSAFE | OUTSIDE)


@pytest.mark.parametrize("module", FILES)
def test_imports_in_functions_spare_help_and_listing(module: str) -> None:
    """Optional packages load in functions; so does what is heavy, in what help and lists need.

    ``import obdbench`` does without pydantic, too, which help and lists need.
    """
    late = set(OPTIONAL)
    if module in loaded_with("obdbench.cli.main"):
        late |= HEAVY
    if module in loaded_with(ROOT_PACKAGE):
        late |= {"pydantic"}
    needless = [
        f"line {imported.line}: {imported.target}"
        for imported in imports(module)
        if imported.in_function and not imported.is_string
        if not loaded_with(imported.target) & late
    ]
    assert not needless


def test_importing_the_package_imports_neither_pydantic_nor_anything_heavy() -> None:
    assert not loaded_with(ROOT_PACKAGE) & (HEAVY | {"pydantic"})


def test_listing_and_help_import_no_heavy_package() -> None:
    calls = [["list", name] for name in LISTS] + [["--help"], ["run", "--help"]]
    code = (
        "import sys\nfrom obdbench.cli.main import main\n"
        f"for call in {calls!r}:\n"
        "    try:\n        main(call)\n"
        "    except SystemExit as ended:\n        assert ended.code == 0\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


ERRORS = {
    *("ObdError", "InvalidSettingError", "InvalidDataError", "FetchError", "UnknownNameError"),
    *("DuplicateNameError", "DivergedError", "TrialTimeoutError"),
}


@pytest.mark.parametrize("module", FILES)
def test_every_error_has_a_cause_and_a_remedy(module: str) -> None:
    """A single argument is allowed if it is an attribute: the message of another error."""
    incomplete = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(FILES[module].read_text()))
        if isinstance(node, ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id in ERRORS
        if len(node.args) < 2 and not (node.args and isinstance(node.args[0], ast.Attribute))
    ]
    assert not incomplete
