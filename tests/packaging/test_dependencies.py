"""Dependencies: all pinned within their ranges, all under licences that ask for nothing."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

from tools.dependencies import EXTRAS, closure, installed, licence

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line and not line.startswith("#")
)
UNPINNED = {"d4rl"}  # needs an interpreter and a simulator of its own
DIRECT = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
]
PERMISSIVE = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python Software|Zlib|CC0|BSL|MPL|Mozilla|0BSD")
VENDOR = re.compile(r"(nvidia|cuda)-")  # what a CUDA build of PyTorch brings, on NVIDIA's terms


@pytest.mark.parametrize("need", DIRECT, ids=lambda need: need.name)
def test_direct_dependencies_are_pinned_within_their_ranges(need: Requirement) -> None:
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    if need.name in UNPINNED:
        return
    assert canonicalize_name(need.name) in pins
    assert need.specifier.contains(pins[canonicalize_name(need.name)])


def test_what_an_installation_pulls_in_is_free_to_use() -> None:
    """The closure with the extras of users; MPL-2.0 asks for its own files alone."""
    try:
        metadata.distribution("obdbench")
    except metadata.PackageNotFoundError:
        pytest.skip("obdbench is not installed, only on the path")
    names = [n for n in installed(closure("obdbench", EXTRAS)) if not VENDOR.match(n)]
    assert len(names) > 20
    for name in names:
        said = licence(name)
        assert PERMISSIVE.search(said), f"{name}: {said!r}"
        assert "GPL" not in said, f"{name}: {said!r}"
