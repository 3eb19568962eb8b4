"""The registry: lazy targets, aliases, plugins, duplicates, near misses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from obdbench import registry as module
from obdbench.errors import DuplicateNameError, ObdError, UnknownNameError
from obdbench.registry import Registry, load_target


@pytest.fixture
def things() -> Registry:
    return Registry("thing", "obdbench.tests.things")


def test_lazy_targets_are_imported_on_use(things: Registry) -> None:
    things.register("path", "pathlib:Path", summary="a path")
    import pathlib

    assert things.get("path") is pathlib.Path
    assert [entry.summary for entry in things] == ["a path"]


def test_decorator_and_alias(things: Registry) -> None:
    @things.register("one", aliases=("uno",))
    class One:
        """The first."""

    assert things.get("uno") is One
    assert things.resolve_name("uno") == "one"
    assert things.entry("one").summary == "The first."
    assert "uno" in things


def test_duplicates_name_both_origins(things: Registry) -> None:
    things.register("one", "package_a:One")
    with pytest.raises(DuplicateNameError, match=r"package_a:One.*package_b:One"):
        things.register("one", "package_b:One")
    with pytest.raises(DuplicateNameError, match="one"):
        things.register("two", "package_b:Two", aliases=("one",))
    things.register("one", "package_a:One")
    assert things.names() == ["one"]


def test_near_misses_are_offered(things: Registry) -> None:
    things.register("av-pbc", "a:A")
    things.register("zebra", "a:Z")
    with pytest.raises(UnknownNameError, match="Did you mean av-pbc"):
        things.get("av-pb")
    with pytest.raises(UnknownNameError, match="Known: av-pbc, zebra"):
        things.get("qqqqqq")


def test_unusable_names(things: Registry) -> None:
    for name in ("", " x", "a b"):
        with pytest.raises(ObdError, match="name"):
            things.register(name, "a:A")


def test_broken_targets_are_one_clear_line() -> None:
    for target in ("nonsense", "no_such_package:A", "pathlib:NoSuch"):
        with pytest.raises(ObdError) as caught:
            load_target(target)
        assert "\n" not in str(caught.value)


def test_entry_points_join(things: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("plug", "pathlib:PurePath", things.group)
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    import pathlib

    assert things.get("plug") is pathlib.PurePath
    assert "pathlib:PurePath" in things.entry("plug").origin


def test_a_duplicate_among_plugins_is_said_every_time(
    things: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    things.register("one", "package_a:One")
    values = {"zero": "package_b:Zero", "one": "package_b:One", "two": "package_b:Two"}
    points = [EntryPoint(name, value, things.group) for name, value in values.items()]
    monkeypatch.setattr(module, "entry_points", lambda group: points)
    for ask in (things.names, lambda: things.get("two"), lambda: "two" in things, things.names):
        with pytest.raises(DuplicateNameError, match=r"package_a:One.*package_b:One"):
            ask()
    del points[1]
    assert things.names() == ["one", "zero", "two"]


@pytest.fixture
def module_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """An importable module with a class, as one that is being imported: named before it is run."""

    def make(name: str, source: str = "class Plain:\n    'The first.'\n") -> ModuleType:
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(source, module.__dict__)
        return module

    return make


@pytest.mark.parametrize("first", ["entry point", "decorator"])
@pytest.mark.parametrize("value", ["mypkg.inner:Plain", "mypkg:Plain"], ids=["own", "re-exported"])
def test_an_entry_point_and_the_decorator_of_what_it_names_are_one(
    things: Registry,
    monkeypatch: pytest.MonkeyPatch,
    module_of: Callable[..., ModuleType],
    first: str,
    value: str,
) -> None:
    plain = module_of("mypkg.inner").Plain
    module_of("mypkg", "")
    monkeypatch.setattr(
        module, "entry_points", lambda group: [EntryPoint("plain", value, things.group)]
    )
    if first == "entry point":
        assert things.names() == ["plain"]
    things.register("plain", aliases=("simple",))(plain)
    assert things.names() == ["plain"]
    assert things.get("simple") is things.get("plain") is plain
    assert things.entry("plain").summary == "The first."
    things.register("plain")(module_of("mypkg.inner").Plain)  # run again, as in a notebook


def test_an_entry_point_may_name_the_variable_that_holds_what_is_registered(
    things: Registry, module_of: Callable[..., ModuleType]
) -> None:
    module = module_of("mypkg", "class Plain: ...\nONE, TWO = Plain(), Plain()\n")
    things.register("one", "mypkg:ONE", origin="mypkg (mypkg:ONE)")
    assert things.register("one", module.ONE) is things.get("one") is module.ONE
    things.register("two", "mypkg:TWO", origin="mypkg (mypkg:TWO)")
    with pytest.raises(DuplicateNameError, match=r"mypkg \(mypkg:TWO\)"):
        things.register("two", module.ONE)


def test_another_class_of_the_same_name_is_a_duplicate(
    things: Registry, module_of: Callable[..., ModuleType]
) -> None:
    things.register("plain", "mypkg:Plain", origin="mypkg (mypkg:Plain)")
    for name in ("mypkg2", "other"):
        with pytest.raises(DuplicateNameError, match=rf"mypkg \(mypkg:Plain\) and {name}:Plain"):
            things.register("plain", module_of(name).Plain)


def test_an_installed_objective_may_be_decorated(tmp_path: Path) -> None:
    """A real distribution, the example's class in it: named, imported and named as a plugin."""
    example = Path(__file__).parents[1] / "examples" / "my_objective.py"
    info = tmp_path / "mypkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[obdbench.objectives]\nmy-objective = mypkg.objective:Advantage\n"
    )
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "__init__.py").touch()
    shutil.copy(example, tmp_path / "mypkg" / "objective.py")
    code = (
        "from obdbench.registry import objectives\n"
        "from obdbench.plugins import Plugin\n"
        "assert 'my-objective' in objectives.names()\n"
        "one = objectives.get('my-objective')\n"
        "assert objectives.get('my-objective') is one\n"
        "assert Plugin.read('mypkg.objective').load() == ['my-objective']\n"
        "assert objectives.get('my-objective') is one\n"
    )
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), root))}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)


def test_unregister(things: Registry) -> None:
    things.register("one", "a:A", aliases=("uno",))
    things.unregister("uno")
    assert things.names() == []
    with pytest.raises(UnknownNameError):
        things.get("one")


def test_import_and_listing_stay_light() -> None:
    code = (
        "import sys, obdbench, obdbench.registry as r;"
        "[list(x) for x in (r.objectives, r.datasets, r.protocols, r.architectures)];"
        "bad = {'torch', 'ray', 'pandas', 'matplotlib', 'mujoco'} & set(sys.modules);"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_built_in_target_exists() -> None:
    for known in (module.objectives, module.datasets, module.protocols, module.architectures):
        for name in known.names():
            assert known.get(name) is not None
