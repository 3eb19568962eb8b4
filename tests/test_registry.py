"""The registry: lazy targets, aliases, plugins, duplicates, near misses."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from obdbench import registry as module
from obdbench.errors import DuplicateNameError, ObdError, UnknownNameError
from obdbench.registry import Registry, load_target


@pytest.fixture
def things() -> Registry[Any]:
    return Registry("thing", "obdbench.tests.things")


def test_lazy_targets_are_imported_on_use(things: Registry[Any]) -> None:
    things.register("path", "pathlib:Path", summary="a path")
    import pathlib

    assert things.get("path") is pathlib.Path
    assert [entry.summary for entry in things] == ["a path"]


def test_decorator_and_alias(things: Registry[Any]) -> None:
    @things.register("one", aliases=("uno",))
    class One:
        """The first."""

    assert things.get("uno") is One
    assert things.canonical("uno") == "one"
    assert things.entry("one").summary == "The first."
    assert "uno" in things


def test_duplicates_name_both_origins(things: Registry[Any]) -> None:
    things.register("one", "package_a:One")
    with pytest.raises(DuplicateNameError, match=r"package_a:One.*package_b:One"):
        things.register("one", "package_b:One")
    with pytest.raises(DuplicateNameError, match="one"):
        things.register("two", "package_b:Two", aliases=("one",))
    things.register("one", "package_a:One")
    assert things.names() == ["one"]


def test_near_misses_are_offered(things: Registry[Any]) -> None:
    things.register("av-pbc", "a:A")
    things.register("zebra", "a:Z")
    with pytest.raises(UnknownNameError, match="Did you mean av-pbc"):
        things.get("av-pb")
    with pytest.raises(UnknownNameError, match="Known: av-pbc, zebra"):
        things.get("qqqqqq")


def test_unusable_names(things: Registry[Any]) -> None:
    for name in ("", " x", "a b"):
        with pytest.raises(ObdError, match="name"):
            things.register(name, "a:A")


def test_broken_targets_are_one_clear_line() -> None:
    for target in ("nonsense", "no_such_package:A", "pathlib:NoSuch"):
        with pytest.raises(ObdError) as caught:
            load_target(target)
        assert "\n" not in str(caught.value)


def test_entry_points_join(things: Registry[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("plug", "pathlib:PurePath", things.group)
    monkeypatch.setattr(module, "entry_points", lambda group: [point])
    import pathlib

    assert things.get("plug") is pathlib.PurePath
    assert "pathlib:PurePath" in things.entry("plug").origin


def test_unregister(things: Registry[Any]) -> None:
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
