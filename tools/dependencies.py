"""Print the installed dependencies with versions and licenses: ``python tools/dependencies.py``.

The list contains all direct and indirect dependencies of the package with the extras that the
Makefile installs for users, as far as they are installed in the environment that runs this program.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("ray", "minari", "plots")


def find_dependencies(name: str, extras: Iterable[str] = ()) -> set[str]:
    """Canonical names of a distribution and of all its direct and indirect dependencies."""
    visited: dict[str, set[str]] = {}
    pending = [(name, frozenset(extras))]
    while pending:
        name, requested = pending.pop()
        visited_extras = visited.setdefault(canonicalize_name(name), set())
        if visited_extras and requested <= visited_extras:
            continue
        visited_extras |= {"", *requested}
        try:
            requirements = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        pending += [
            (requirement.name, frozenset(requirement.extras))
            for requirement in requirements
            if requirement.marker is None
            or any(requirement.marker.evaluate({"extra": extra}) for extra in visited_extras)
        ]
    return set(visited)


def read_license(name: str) -> str:
    """The license that a distribution states: its expression, its classifiers, or its text."""
    fields = metadata.metadata(name)
    classifiers = [c for c in fields.get_all("Classifier") or [] if c.startswith("License")]
    classified = "; ".join(line.rpartition(":: ")[2] for line in classifiers)
    text = (fields.get("License") or "").strip().partition("\n")[0][:60]
    return fields.get("License-Expression") or classified or text


def select_installed(names: Iterable[str]) -> list[str]:
    """The names that are installed in this environment, sorted."""
    present = {canonicalize_name(each.metadata["Name"]) for each in metadata.distributions()}
    return sorted(present & set(names))


if __name__ == "__main__":
    print("| package | version | license |\n| :-- | :-- | :-- |")
    for each in select_installed(find_dependencies("obdbench", EXTRAS)):
        print(f"| {each} | {metadata.version(each)} | {read_license(each)} |")
