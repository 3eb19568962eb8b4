"""Code of one's own, without packaging: a Python file, a module, or ``module:attribute``.

A file's source travels to worker processes and nodes as text, so that they need no copy of it.
"""

from __future__ import annotations

import hashlib
import inspect
import linecache
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from obdbench.errors import InvalidSettingError, ObdError
from obdbench.registry import load_target, objectives

MAX_SOURCE = 4 * 1024 * 1024


@dataclass(frozen=True)
class Plugin:
    """What a worker needs to load a plugin: the reference, and the source where it is a file."""

    reference: str
    source: str | None = None

    @classmethod
    def read(cls, reference: str) -> Plugin:
        """Resolve a reference on the machine where the user typed it."""
        if not (reference.endswith(".py") or "/" in reference):
            return cls(reference)
        path = Path(reference)
        try:
            if path.stat().st_size > MAX_SOURCE:
                raise InvalidSettingError(
                    f"The plugin {reference} is larger than any source file.", "Check the path."
                )
            return cls(str(path.resolve()), path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
            raise InvalidSettingError(
                f"The plugin {reference} cannot be read: {error}.", "Check the path."
            ) from error

    @property
    def module_name(self) -> str:
        """Name in ``sys.modules`` of a plugin read from a file."""
        stem = "".join(c if c.isalnum() else "_" for c in Path(self.reference).stem)
        return f"obdbench_plugin_{stem}_{hashlib.sha256(self.reference.encode()).hexdigest()[:8]}"

    def load(self) -> list[str]:
        """Import it, register what it offers, and name the objectives it brought."""
        before = set(objectives.names())
        if self.source is not None:
            offered = _classes(self._execute())
        else:
            if "" not in sys.path and str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            module, _, attribute = self.reference.partition(":")
            try:
                if attribute:
                    offered = [load_target(self.reference, "plugin")]
                else:
                    offered = _classes(import_module(module))
            except ObdError:
                raise
            except (Exception, SystemExit) as error:
                raise _cannot_load(self.reference, error) from error
        held = {id(entry.target) for entry in objectives}
        for candidate in offered:
            if id(candidate) not in held:
                objectives.register(_name_of(candidate, self.reference), candidate)
        mine = {id(candidate) for candidate in offered}
        return [
            entry.name
            for entry in objectives
            if entry.name not in before or id(entry.target) in mine
        ]

    def _execute(self) -> ModuleType:
        assert self.source is not None
        name = self.module_name
        loaded = sys.modules.get(name)
        if loaded is not None and getattr(loaded, "__source__", None) == self.source:
            return loaded
        module = ModuleType(name)
        module.__file__ = self.reference
        module.__dict__["__source__"] = self.source
        sys.modules[name] = module
        lines = self.source.splitlines(keepends=True)
        linecache.cache[self.reference] = (len(self.source), None, lines, self.reference)
        try:
            exec(compile(self.source, self.reference, "exec"), module.__dict__)
        except ObdError:
            del sys.modules[name]
            raise
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise _cannot_load(self.reference, error) from error
        return module


def load_plugins(plugins: list[Plugin]) -> list[str]:
    """Load several; returns the objectives they brought."""
    return [name for plugin in plugins for name in plugin.load()]


def _classes(module: ModuleType) -> list[Any]:
    """The concrete objectives that a module defines itself."""
    from obdbench.objectives.objective import Objective

    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Objective)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


def _name_of(candidate: Any, reference: str) -> str:
    name = getattr(candidate, "name", None)
    if not isinstance(name, str) or not name:
        raise InvalidSettingError(
            f"The plugin {reference} offers {getattr(candidate, '__name__', candidate)!r} "
            "without a name.",
            'Give the class an attribute name = "my-objective".',
        )
    return name


def _cannot_load(reference: str, error: BaseException) -> InvalidSettingError:
    return InvalidSettingError(
        f"The plugin {reference} cannot be loaded: {type(error).__name__}: {error}.",
        "Try importing it by itself.",
    )
