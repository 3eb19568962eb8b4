"""User code without packaging: a Python file, a module or ``module:attribute``.

The source of a file is sent to workers as text, so that other nodes need no copy of the file.
"""

from __future__ import annotations

import hashlib
import inspect
import linecache
import sys
from collections.abc import Iterable
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
    """A reference to user code, and its source if the reference is a file."""

    reference: str
    source: str | None = None

    @classmethod
    def read(cls, reference: str) -> Plugin:
        """Read a plugin on the machine where the user named it."""
        if not (reference.endswith(".py") or "/" in reference):
            return cls(reference)
        path = Path(reference)
        try:
            if path.stat().st_size > MAX_SOURCE:
                raise InvalidSettingError(
                    f"The plugin {reference} is larger than {MAX_SOURCE:,} bytes.",
                    "Check the path.",
                )
            return cls(str(path.resolve()), path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
            raise InvalidSettingError(
                f"The plugin {reference} cannot be read: {error}.", "Check the path."
            ) from error

    @property
    def module_name(self) -> str:
        """Name in ``sys.modules`` of a plugin that is a file."""
        stem = "".join(c if c.isalnum() else "_" for c in Path(self.reference).stem)
        return f"obdbench_plugin_{stem}_{hashlib.sha256(self.reference.encode()).hexdigest()[:8]}"

    def load(self) -> list[str]:
        """Import the plugin, register its objectives and return their names."""
        names_before = set(objectives.names())
        classes = self._import_classes()
        registered = {id(entry.target) for entry in objectives}
        for objective in classes:
            if id(objective) not in registered:
                objectives.register(_read_name(objective, self.reference), objective)
        own = {id(objective) for objective in classes}
        return [
            entry.name
            for entry in objectives
            if entry.name not in names_before or id(entry.target) in own
        ]

    def _import_classes(self) -> list[Any]:
        """Import the plugin; returns its objective classes."""
        if self.source is not None:
            return _objective_classes(self._execute(self.source))
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        module, _, attribute = self.reference.partition(":")
        try:
            if attribute:
                return [load_target(self.reference, "plugin")]
            return _objective_classes(import_module(module))
        except ObdError:
            raise
        except (Exception, SystemExit) as error:
            raise _loading_error(self.reference, error) from error

    def _execute(self, source: str) -> ModuleType:
        """Run the source as a module, once per process."""
        name = self.module_name
        loaded = sys.modules.get(name)
        if loaded is not None and getattr(loaded, "__source__", None) == source:
            return loaded
        module = ModuleType(name)
        module.__file__ = self.reference
        module.__dict__["__source__"] = source
        sys.modules[name] = module
        lines = source.splitlines(keepends=True)
        linecache.cache[self.reference] = (len(source), None, lines, self.reference)
        try:
            exec(compile(source, self.reference, "exec"), module.__dict__)
        except ObdError:
            del sys.modules[name]
            raise
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise _loading_error(self.reference, error) from error
        return module


def load_plugins(references: Iterable[str]) -> tuple[Plugin, ...]:
    """Read and load plugins, so that this process can use their names."""
    plugins = tuple(map(Plugin.read, references))
    for plugin in plugins:
        plugin.load()
    return plugins


def _objective_classes(module: ModuleType) -> list[Any]:
    """The concrete objective classes that a module itself defines."""
    base = load_target(objectives.base)
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


def _read_name(objective: Any, reference: str) -> str:
    name = getattr(objective, "name", None)
    if not isinstance(name, str) or not name:
        raise InvalidSettingError(
            f"The class {getattr(objective, '__name__', objective)!r} of the plugin {reference} "
            "has no name.",
            'Give the class an attribute name = "my-objective".',
        )
    return name


def _loading_error(reference: str, error: BaseException) -> InvalidSettingError:
    return InvalidSettingError(
        f"The plugin {reference} cannot be loaded: {type(error).__name__}: {error}.",
        "Import it in a Python session to see the traceback.",
    )
