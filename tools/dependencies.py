"""What an installation pulls in: ``python tools/dependencies.py`` prints it as a table.

Versions and licences are those of the environment it runs in; the closure is that of the package
with the extras that the Makefile installs for users.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("ray", "minari", "plots")


def closure(name: str, extras: Iterable[str] = ()) -> set[str]:
    """Everything that a distribution needs, and what these need in turn."""
    done: dict[str, set[str]] = {}
    waiting = [(name, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        known = done.setdefault(canonicalize_name(name), set())
        if known and wanted <= known:
            continue
        known |= {"", *wanted}
        try:
            needs = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        waiting += [
            (need.name, frozenset(need.extras))
            for need in needs
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in known)
        ]
    return set(done)


def licence(name: str) -> str:
    """What a distribution says of its licence: the expression, the classifiers, or the words."""
    about = metadata.metadata(name)
    stated = [line for line in about.get_all("Classifier") or [] if line.startswith("License")]
    classified = "; ".join(line.rpartition(":: ")[2] for line in stated)
    free = (about.get("License") or "").strip().partition("\n")[0][:60]
    return about.get("License-Expression") or classified or free


def installed(names: Iterable[str]) -> list[str]:
    """Those of the names that are installed here."""
    found = {canonicalize_name(each.metadata["Name"]) for each in metadata.distributions()}
    return sorted(found & set(names))


if __name__ == "__main__":
    print("| package | version | licence |\n| :-- | :-- | :-- |")
    for each in installed(closure("obdbench", EXTRAS)):
        print(f"| {each} | {metadata.version(each)} | {licence(each)} |")
