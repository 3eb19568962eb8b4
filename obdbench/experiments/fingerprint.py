"""Fingerprint of the code outside this project that a trial runs; it enters the trial's key.

An edited objective, protocol, architecture or dataset loader therefore makes a new trial. The code
of obdbench itself does not enter: its version is recorded in every result.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable
from dataclasses import is_dataclass
from functools import partial
from types import ModuleType
from typing import Any, Literal, cast

from obdbench.registry import Registry, selections

PROJECT = "obdbench"
UNDISTILLED = "obdbench.selection.undistilled:"  # objectives made of selection methods
Component = Literal[
    "objective",
    "protocol",
    "architecture",
    "dataset",
    "selection method",
    "solver",
    "state source",
]


def code_fingerprint(components: Iterable[tuple[Registry, str]]) -> dict[Component, str]:
    """Map each component that is defined outside obdbench to the hash of its source.

    The mapping is empty if obdbench defines all of them.
    """
    hashes = {
        cast(Component, registry.kind): hash_source(registry, name)
        for registry, name in components
        if name in registry  # a file is a dataset without being registered
    }
    return {component: source for component, source in hashes.items() if source is not None}


def hash_source(registry: Registry, name: str) -> str | None:
    """Short hash of the source that defines a registered name; None for obdbench's own code.

    The values of a dataclass instance and the arguments of a ``partial`` are hashed too, because
    they may be set anywhere.
    """
    target = registry.entry(name).target
    if isinstance(target, str) and target.startswith(UNDISTILLED):
        return hash_source(selections, name)
    if isinstance(target, str) and target.startswith(f"{PROJECT}."):
        return None
    target = registry.get(name)
    values = ""
    while isinstance(target, partial):
        values += repr((target.args, sorted(target.keywords.items())))
        target = target.func
    if is_dataclass(target) and not isinstance(target, type):
        values += repr(target)
    values = re.sub(" at 0x[0-9a-fA-F]+", "", values)  # addresses differ between processes
    owner = target if inspect.isroutine(target) or isinstance(target, type) else type(target)
    module = inspect.getmodule(owner)
    is_external = module is None or module.__name__.partition(".")[0] != PROJECT
    source = _read_source(module, target) if is_external else None
    if source is None and not values:
        return None
    return hashlib.sha256(f"{source or ''}{values}".encode()).hexdigest()[:16]


def _read_source(module: ModuleType | None, target: Any) -> str | None:
    source = getattr(module, "__source__", None)  # set for plugins that are files
    if isinstance(source, str):
        return source
    try:
        return inspect.getsource(target if module is None else module)
    except (OSError, TypeError):
        return None
