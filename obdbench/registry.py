"""One generic registry, instantiated once for each thing that can be named.

A target is either an object or a lazy string ``"package.module:attribute"``, imported when it is
first asked for, so that listing names imports neither torch nor ray. Third-party packages join
through entry points of the registry's group.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from obdbench.errors import DuplicateNameError, InvalidSettingError, unknown_name

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One registered name: what it stands for, where it came from, one line about it."""

    name: str
    target: Any
    origin: str
    summary: str = ""
    aliases: tuple[str, ...] = ()


@dataclass
class Registry(Generic[T]):
    """Names for things of one kind."""

    kind: str
    group: str
    _entries: dict[str, Entry] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _plugins_loaded: bool = False

    def register(
        self,
        name: str,
        target: T | str | None = None,
        *,
        aliases: tuple[str, ...] = (),
        summary: str = "",
        origin: str | None = None,
    ) -> Any:
        """Register ``target`` under ``name``; without a target, act as a decorator."""
        if target is None:

            def decorate(decorated: Any) -> Any:
                self._add(name, decorated, aliases, summary, origin or _origin_of(decorated))
                return decorated

            return decorate
        self._add(name, target, aliases, summary, origin or _origin_of(target))
        return target

    def _add(
        self, name: str, target: Any, aliases: tuple[str, ...], summary: str, origin: str
    ) -> None:
        if not name or name != name.strip() or any(c.isspace() for c in name):
            raise InvalidSettingError(
                f"{name!r} is no usable {self.kind} name.", "Use letters, digits, '-', '/' and '.'."
            )
        entry = Entry(name, target, origin, summary or _summary_of(target), aliases)
        for candidate in (name, *aliases):
            holder = self._entries.get(self._aliases.get(candidate, candidate))
            if holder is None or holder.origin == origin or _same(holder.target, target):
                continue
            raise DuplicateNameError(
                f"The {self.kind} name {candidate!r} is claimed by both "
                f"{holder.origin} and {origin}.",
                "Rename one of them, or uninstall one of the packages.",
            )
        known = self._entries.get(name, entry).target
        if isinstance(target, str) and not isinstance(known, str) and _same(known, target):
            return  # what is imported already says more than its import target
        self._entries[name] = entry
        self._aliases.update(dict.fromkeys(aliases, name))

    def unregister(self, name: str) -> None:
        """Forget a name; meant for tests and interactive work."""
        entry = self._entries.pop(self.resolve_name(name))
        for alias in entry.aliases:
            self._aliases.pop(alias, None)

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        for point in entry_points(group=self.group):
            distribution = point.dist.name if point.dist is not None else "unknown package"
            self._add(point.name, point.value, (), "", f"{distribution} ({point.value})")
        self._plugins_loaded = True  # an error above is raised again, or plugins would be missed

    def resolve_name(self, name: str) -> str:
        """Resolve an alias to the registered name."""
        self._load_plugins()
        resolved = self._aliases.get(name, name)
        if resolved not in self._entries:
            raise unknown_name(self.kind, name, [*self._entries, *self._aliases])
        return resolved

    def entry(self, name: str) -> Entry:
        """The entry of a name or alias."""
        return self._entries[self.resolve_name(name)]

    def get(self, name: str) -> T:
        """The object of a name, imported now if its target was lazy."""
        entry = self.entry(name)
        if isinstance(entry.target, str):
            return cast(T, load_target(entry.target, self.kind))
        return cast(T, entry.target)

    def names(self) -> list[str]:
        """All registered names, in order of registration."""
        self._load_plugins()
        return list(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        self._load_plugins()
        return iter(list(self._entries.values()))

    def __contains__(self, name: object) -> bool:
        self._load_plugins()
        return name in self._entries or name in self._aliases


def construct(kind: str, name: str, make: Callable[..., Any], params: Mapping[str, Any]) -> Any:
    """Make what a name stands for; settings that its maker cannot take are one clear error."""
    try:
        return make(**params)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise InvalidSettingError(
            f"The {kind} {name!r} cannot be made with {dict(params)}: {type(error).__name__}: "
            f"{error}.",
            "Check the types of its settings.",
        ) from error


def load_target(target: str, kind: str = "object") -> Any:
    """Import ``"package.module:attribute"``."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise InvalidSettingError(
            f"{target!r} is no import target.", "Write it as package.module:attribute."
        )
    try:
        found: Any = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidSettingError(
            f"The {kind} {target!r} cannot be imported: {error}.",
            "Check the spelling, and that its package is installed.",
        ) from error
    return found


def _origin_of(target: Any) -> str:
    if isinstance(target, str):
        return target
    module = getattr(target, "__module__", type(target).__module__)
    name = getattr(target, "__qualname__", getattr(target, "name", type(target).__qualname__))
    return f"{module}:{name}"


def _same(held: Any, target: Any) -> bool:
    """Whether two targets are one thing: a decorated class and the entry point that names it.

    An entry point may name it in the package that re-exports it, or a variable that holds it.
    """
    if isinstance(target, str) and not isinstance(held, str):
        held, target = target, held
    own = _origin_of(target)
    if _origin_of(held) == own:
        return True
    if not isinstance(held, str) or isinstance(target, str):
        return False
    module, _, attribute = held.partition(":")
    if getattr(sys.modules.get(module), attribute, None) is target:
        return True
    return own.startswith(f"{module}.") and own.partition(":")[2] == attribute


def _summary_of(target: Any) -> str:
    if isinstance(target, str):
        return ""
    doc = inspect.getdoc(target) or ""
    return doc.splitlines()[0] if doc else ""


objectives: Registry[Any] = Registry("objective", "obdbench.objectives")
datasets: Registry[Any] = Registry("dataset", "obdbench.datasets")
protocols: Registry[Any] = Registry("protocol", "obdbench.protocols")
architectures: Registry[Any] = Registry("architecture", "obdbench.architectures")

register_objective = objectives.register
register_dataset = datasets.register
register_protocol = protocols.register
register_architecture = architectures.register

for _name, _aliases, _target, _summary in (
    ("random", (), "random_selection:RandomSelection", "real pairs drawn at random, not distilled"),
    ("dbc", (), "dbc:DBC", "squared distance to the data's actions"),
    ("pbc", (), "pbc:PBC", "squared distance to the teacher's actions"),
    ("av-pbc", ("av_pbc", "avpbc"), "av_pbc:AvPBC", "PBC weighted by the teacher's action value"),
    ("sdw", (), "sdw:SDW", "weighted further by the reciprocal of the state's density"),
):
    objectives.register(_name, f"obdbench.objectives.{_target}", aliases=_aliases, summary=_summary)

for _depth in (2, 3, 4, 5, 6):
    architectures.register(
        f"mlp{_depth}",
        f"obdbench.policies.networks:MLP{_depth}",
        summary=f"tanh-Gaussian MLP of {_depth} linear layers, width 256",
    )
architectures.register(
    "residual",
    "obdbench.policies.networks:RESIDUAL",
    aliases=("resmlp",),
    summary="tanh-Gaussian MLP of 4 linear layers with skip connections, width 256",
)

for _name, _target, _summary in (
    ("default", "protocol:Default", "P fresh mlp4 policies trained with SGD, E episodes each"),
    ("cross-architecture", "protocol:CrossArchitecture", "the same on five other architectures"),
    ("cross-optimizer", "protocol:CrossOptimizer", "the same under Adam, AdamW and momentum SGD"),
    ("ensemble", "protocol:Ensemble", "ten policies act as one by their mean action"),
    ("size", "protocol:Size", "the default score at 16 to 256 pairs"),
    ("convergence", "protocol:Convergence", "the default score against outer steps"),
):
    protocols.register(_name, f"obdbench.evaluation.{_target}", summary=_summary)

D4RL_NAMES = tuple(
    f"{task}-{level}"
    for task in ("hopper", "walker2d", "halfcheetah")
    for level in ("medium-replay", "medium", "medium-expert")
)

for _name in D4RL_NAMES:
    datasets.register(
        f"embedded/{_name}-v0",
        "obdbench.datasets.embedded:load",
        summary="collected by this project, shipped with the package",
    )
for _name in D4RL_NAMES:
    datasets.register(
        f"recon/{_name}-v2",
        "obdbench.collection.reconstruct:load",
        summary="stand-in for D4RL, regenerated from the published teachers",
    )
for _name in D4RL_NAMES:
    datasets.register(
        f"d4rl/{_name}-v2", "obdbench.datasets.d4rl:load", summary="genuine D4RL file, downloaded"
    )
for _name in ("hopper", "halfcheetah", "walker2d"):
    for _level in ("simple", "medium", "expert"):
        datasets.register(
            f"minari/mujoco/{_name}/{_level}-v0",
            "obdbench.datasets.minari:load",
            summary="Minari dataset, through its library",
        )
