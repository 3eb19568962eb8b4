"""Which code of one's own a trial runs, as a hash that enters its key.

Results of an edited objective, protocol, architecture or dataset loader must not be taken for its
own. This project's code does not enter: its version is in every result.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import is_dataclass
from typing import Any

from obdbench.registry import Registry, architectures, datasets, objectives, protocols

PROJECT = "obdbench"
OBJECTIVE, PROTOCOL, DATASET = "objective", "protocol", "dataset"


def code_fingerprint(
    objective: str,
    protocol: str | None = None,
    architecture: str | None = None,
    dataset: str | None = None,
) -> str | None:
    """What own code the named things are defined by, None where all are this project's.

    The hash of the objective's source alone where nothing else is foreign, or all lies in the
    objective's file; otherwise ``kind=hash`` for each, joined by spaces.
    """
    named: tuple[tuple[Registry[Any], str | None], ...] = (
        (objectives, objective),
        (protocols, protocol),
        (architectures, architecture),
        (datasets, dataset),
    )
    found: dict[str, str] = {}
    for registry, name in named:
        if name is not None and name in registry:
            source = source_of(registry, name)
            if source is not None and source not in found.values():
                found[registry.kind] = source
    if set(found) == {OBJECTIVE}:
        return found[OBJECTIVE]
    return " ".join(f"{kind}={source}" for kind, source in found.items()) or None


def distilling(code: str | None) -> str | None:
    """The part of :func:`code_fingerprint` that decides what is distilled: all but the protocol's."""
    return without(code, PROTOCOL)


def without(code: str | None, kind: str) -> str | None:
    """What :func:`code_fingerprint` says of all but one kind."""
    if code is None or "=" not in code:
        return code
    kept = [part for part in code.split() if not part.startswith(f"{kind}=")]
    if len(kept) == 1 and kept[0].startswith(f"{OBJECTIVE}="):
        return kept[0].removeprefix(f"{OBJECTIVE}=")
    return " ".join(kept) or None


def source_of(registry: Registry[Any], name: str) -> str | None:
    """Short hash of the source that defines what a name stands for, None for this project's own.

    A dataclass's instance counts by its values too, for they may be given anywhere.
    """
    entry = registry.entry(name)
    if isinstance(entry.target, str) and entry.target.startswith(f"{PROJECT}."):
        return None
    target = registry.get(name)
    values = repr(target) if is_dataclass(target) and not isinstance(target, type) else ""
    module = inspect.getmodule(target if inspect.isroutine(target) else _class_of(target))
    own = module is None or module.__name__.partition(".")[0] != PROJECT
    source = _source(module, target) if own else None
    if source is None and not values:
        return None
    return hashlib.sha256(f"{source or ''}{values}".encode()).hexdigest()[:16]


def _class_of(target: Any) -> Any:
    return target if isinstance(target, type) else type(target)


def _source(module: Any, target: Any) -> str | None:
    source = getattr(module, "__source__", None)
    if isinstance(source, str):
        return source
    try:
        return inspect.getsource(module if module is not None else target)
    except (OSError, TypeError):
        return None
