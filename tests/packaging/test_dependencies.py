"""Dependencies are pinned within their ranges and have permissive licenses."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

from tools.dependencies import EXTRAS, find_dependencies, read_license, select_installed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line and not line.startswith("#")
)
UNPINNED = {"d4rl"}  # requires another Python version and simulator
DIRECT = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
]
PERMISSIVE = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python Software|Zlib|CC0|BSL|MPL|Mozilla|0BSD")
VENDOR = re.compile(r"(nvidia|cuda)-")  # dependencies of CUDA builds of PyTorch


@pytest.mark.parametrize(
    "requirement",
    [requirement for requirement in DIRECT if requirement.name not in UNPINNED],
    ids=lambda requirement: requirement.name,
)
def test_direct_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    assert canonicalize_name(requirement.name) in pins
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_installed_dependencies_have_permissive_licenses() -> None:
    """MPL-2.0 is accepted: it applies to the files of the dependency only."""
    try:
        metadata.distribution("obdbench")
    except metadata.PackageNotFoundError:
        pytest.skip("obdbench is on the path but not installed")
    dependencies = select_installed(find_dependencies("obdbench", EXTRAS))
    names = [name for name in dependencies if not VENDOR.match(name)]
    assert len(names) > 20
    licenses = {name: read_license(name) for name in names}
    assert {n: text for n, text in licenses.items() if not PERMISSIVE.search(text)} == {}
    assert {n: text for n, text in licenses.items() if "GPL" in text} == {}
