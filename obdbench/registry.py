"""Generic registry of named components, and its instances.

A target is an object or a string ``"package.module:attribute"`` that is imported on first use, so
that listing names imports neither torch nor Ray. Third-party packages register components through
the entry points of the registry's group.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from obdbench.errors import DuplicateNameError, InvalidSettingError, unknown_name


@dataclass(frozen=True)
class Entry:
    """A registered name with its target, its origin and a one-line summary."""

    name: str
    target: Any
    origin: str
    summary: str = ""
    aliases: tuple[str, ...] = ()


@dataclass
class Registry:
    """Names for components of one kind; ``base`` is the import target of their base class."""

    kind: str
    group: str
    base: str = ""
    _entries: dict[str, Entry] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _plugins_loaded: bool = False

    def register(
        self,
        name: str,
        target: Any = None,
        *,
        aliases: tuple[str, ...] = (),
        summary: str = "",
        origin: str | None = None,
    ) -> Any:
        """Register ``target`` under ``name``; without a target, return a decorator."""
        if target is None:
            return partial(self.register, name, aliases=aliases, summary=summary, origin=origin)
        self._add(name, target, aliases, summary, origin or _origin_of(target))
        return target

    def _add(
        self, name: str, target: Any, aliases: tuple[str, ...], summary: str, origin: str
    ) -> None:
        if not name or name != name.strip() or any(c.isspace() for c in name):
            raise InvalidSettingError(
                f"{name!r} is not a valid {self.kind} name.",
                "Choose a name without white space.",
            )
        entry = Entry(name, target, origin, summary or _summary_of(target), aliases)
        for new_name in (name, *aliases):
            existing = self._entries.get(self._aliases.get(new_name, new_name))
            if existing is None or existing.origin == origin:
                continue
            if not _is_same_object(existing.target, target):
                raise DuplicateNameError(
                    f"The {self.kind} name {new_name!r} is registered by both "
                    f"{existing.origin} and {origin}.",
                    "Rename one of them, or uninstall one of the packages.",
                )
        known = self._entries.get(name, entry).target
        if (
            isinstance(target, str)
            and not isinstance(known, str)
            and _is_same_object(known, target)
        ):
            return  # keep the imported object, which has a summary
        self._entries[name] = entry
        self._aliases.update(dict.fromkeys(aliases, name))

    def create(self, name: str, params: Mapping[str, Any]) -> Any:
        """Create a component by name, and check that it has the base class of its kind."""
        component, base = self.get(name), load_target(self.base)
        is_other_class = isinstance(component, type) and not issubclass(component, base)
        if callable(component) and not is_other_class:
            try:
                component = component(**params)
            except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
                raise InvalidSettingError(
                    f"The {self.kind} {name!r} cannot be created with {dict(params)}: "
                    f"{type(error).__name__}: {error}.",
                    "Check the types of its parameters.",
                ) from error
        if not isinstance(component, base):
            raise InvalidSettingError(
                f"The {self.kind} {name!r} is not derived from {base.__name__}.",
                f"Derive it from {self.base.replace(':', '.')}.",
            )
        if not vars(type(component)).get("name"):  # its own, not that of a base class
            type(component).name = name
        return component

    def create_with(self, name: str, params: Mapping[str, Any]) -> Any:
        """Create a component with parameters of a user, whose names are checked."""
        component = self.get(name)
        known = parameters_of(component) if isinstance(component, type) else params
        for parameter in params:
            if parameter not in known:
                raise unknown_name(f"setting of {name}", parameter, known)
        return self.create(name, params)

    def unregister(self, name: str) -> None:
        """Remove a name; meant for tests and interactive sessions."""
        entry = self._entries.pop(self.resolve_name(name))
        for alias in entry.aliases:
            self._aliases.pop(alias, None)

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        for point in entry_points(group=self.group):
            distribution = point.dist.name if point.dist is not None else "unknown package"
            self._add(point.name, point.value, (), "", f"{distribution} ({point.value})")
        self._plugins_loaded = True  # not set after an error, which every call then repeats

    def resolve_name(self, name: str) -> str:
        """Return the registered name of a name or alias."""
        self._load_plugins()
        resolved = self._aliases.get(name, name)
        if resolved not in self._entries:
            hint = "Load the file that registers another one with --plugin."
            raise unknown_name(self.kind, name, [*self._entries, *self._aliases], hint=hint)
        return resolved

    def entry(self, name: str) -> Entry:
        """Return the entry of a name or alias."""
        return self._entries[self.resolve_name(name)]

    def get(self, name: str) -> Any:
        """Return the object of a name or alias, importing it if its target is a string."""
        entry = self.entry(name)
        if isinstance(entry.target, str):
            return load_target(entry.target, self.kind)
        return entry.target

    def names(self) -> list[str]:
        """Return all registered names in order of registration."""
        self._load_plugins()
        return list(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        self._load_plugins()
        return iter(list(self._entries.values()))

    def __contains__(self, name: object) -> bool:
        self._load_plugins()
        return name in self._entries or name in self._aliases


def parameters_of(component: Any) -> dict[str, Any]:
    """Names and defaults of the parameters with which a component is created."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(component).parameters.values()
    return {each.name: each.default for each in parameters if each.kind in named}


def load_target(target: str, kind: str = "object") -> Any:
    """Import ``"package.module:attribute"``."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise InvalidSettingError(
            f"{target!r} is not an import target.", "Write it as package.module:attribute."
        )
    try:
        target_object: Any = import_module(module_name)
        for part in attribute.split("."):
            target_object = getattr(target_object, part)
    except (ImportError, AttributeError) as error:
        raise InvalidSettingError(
            f"The {kind} {target!r} cannot be imported: {error}.",
            "Check the spelling and whether its package is installed.",
        ) from error
    return target_object


def _origin_of(target: Any) -> str:
    while isinstance(target, partial):
        target = target.func
    if isinstance(target, str):
        return target
    module = getattr(target, "__module__", type(target).__module__)
    name = getattr(target, "__qualname__", getattr(target, "name", type(target).__qualname__))
    return f"{module}:{name}"


def _is_same_object(first: Any, second: Any) -> bool:
    """Whether two targets name one object, such as a decorated class and its entry point.

    The entry point may name a package that re-exports the class, or a variable bound to it.
    """
    if isinstance(second, str) and not isinstance(first, str):
        first, second = second, first
    origin = _origin_of(second)
    if _origin_of(first) == origin:  # an instance has its own values
        return isinstance(second, str) or hasattr(second, "__qualname__") or first == second
    if not isinstance(first, str) or isinstance(second, str):
        return False
    module, _, attribute = first.partition(":")
    if getattr(sys.modules.get(module), attribute, None) is second:
        return True
    return origin.startswith(f"{module}.") and origin.partition(":")[2] == attribute


def _summary_of(target: Any) -> str:
    if isinstance(target, str):
        return ""
    doc = inspect.getdoc(target) or ""
    return doc.splitlines()[0] if doc else ""


selections: Registry = Registry(
    "selection method",
    "obdbench.selections",
    base="obdbench.selection.selection_method:SelectionMethod",
)

state_sources: Registry = Registry(
    "state source",
    "obdbench.state_sources",
    base="obdbench.distillation.state_sources.state_source:StateSource",
)

solvers: Registry = Registry(
    "solver",
    "obdbench.solvers",
    base="obdbench.distillation.solvers.solver:Solver",
)


class ObjectiveRegistry(Registry):
    """Objectives, and every selection method as the objective of its undistilled pairs."""

    def _load_plugins(self) -> None:
        super()._load_plugins()
        for entry in selections:
            if entry.name not in self._entries:
                target = f"obdbench.selection.undistilled:{entry.name}"
                self._add(entry.name, target, entry.aliases, entry.summary, entry.origin)


objectives = ObjectiveRegistry(
    "objective", "obdbench.objectives", base="obdbench.objectives.objective:Objective"
)
datasets: Registry = Registry("dataset", "obdbench.datasets")
protocols: Registry = Registry(
    "protocol", "obdbench.protocols", "obdbench.evaluation.protocol:Protocol"
)
architectures: Registry = Registry("architecture", "obdbench.architectures")
teachers: Registry = Registry("teacher", "obdbench.teachers")
tasks: Registry = Registry("task", "obdbench.tasks")

REGISTRIES: dict[str, Registry] = {
    "objectives": objectives,
    "datasets": datasets,
    "protocols": protocols,
    "architectures": architectures,
    "teachers": teachers,
    "selections": selections,
    "state_sources": state_sources,
    "solvers": solvers,
    "tasks": tasks,
}

for _name, _target, _summary in (
    ("random", "selection_method:UniformSelection", "transitions drawn uniformly"),
    ("kmeans++", "kmeans_plus_plus:KMeansPlusPlus", "states that cover the data"),
    ("top-q", "top_value:TopValue", "the tenth of the data with the highest action values"),
    ("top-return", "top_return:TopReturn", "the tenth of the data with the best episodes"),
    ("sdr", "stepwise_dual_ranking:StepwiseDualRanking", "stepwise dual ranking"),
    ("omp", "gradient_matching_pursuit:GradientMatchingPursuit", "matching pursuit on gradients"),
):
    selections.register(_name, f"obdbench.selection.{_target}", summary=_summary)

for _name, _target, _summary in (
    ("data", "state_source:DataStates", "states of the dataset"),
    ("smoothed", "smoothed:SmoothedStates", "states of the dataset with noise"),
    (
        "imagined",
        "imagined:ImaginedStates",
        "smoothed states and those of students in a dynamics model",
    ),
):
    state_sources.register(
        _name, f"obdbench.distillation.state_sources.{_target}", summary=_summary
    )

for _name, _target, _summary in (
    ("full", "exact:Exact", "exact meta-gradient through all inner steps"),
    ("truncated", "exact:Truncated", "meta-gradient through the last 'window' inner steps"),
    (
        "random-truncated",
        "exact:RandomTruncated",
        "meta-gradient through the last 'window' steps of inner loops of random length",
    ),
    ("infinite-width", "infinite_width:InfiniteWidth", "meta-gradient at infinite width"),
    ("corrected", "corrected:Corrected", "infinite-width steps, corrected by exact ones"),
    ("label-solving", "label_solving:LabelSolving", "labels solved at infinite width"),
    ("gradient-matching", "gradient_matching:GradientMatching", "equal gradients of cloning"),
    ("loss-matching", "loss_matching:LossMatching", "equal losses of random students"),
):
    solvers.register(
        _name,
        f"obdbench.distillation.solvers.{_target}",
        aliases=("exact",) if _name == "full" else (),
        summary=_summary,
    )

for _name, _aliases, _target, _summary in (
    ("dbc", (), "dbc:DBC", "squared distance to the actions of the dataset"),
    ("pbc", (), "pbc:PBC", "squared distance to the actions of the teacher"),
    (
        "av-pbc",
        ("av_pbc", "avpbc"),
        "av_pbc:AvPBC",
        "PBC weighted by the action value of the teacher",
    ),
    ("sdw", (), "sdw:SDW", "Av-PBC weighted by the inverse density of the state"),
    (
        "q-pbc",
        ("q_pbc", "qpbc"),
        "q_pbc:QPBC",
        "PBC and the teacher's action values of the student's actions",
    ),
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
    summary="tanh-Gaussian MLP of 4 linear layers with skip connections, width 256",
)

for _name, _target, _summary in (
    (
        "default",
        "protocol:Default",
        "students of the distillation's architecture, trained with SGD",
    ),
    (
        "cross-architecture",
        "cross_architecture:CrossArchitecture",
        "students of five other architectures",
    ),
    (
        "cross-optimizer",
        "cross_optimizer:CrossOptimizer",
        "students trained with Adam, AdamW and momentum SGD",
    ),
    ("ensemble", "ensemble:Ensemble", "ten students that act together by their mean action"),
    ("size", "size:Size", "the default score of synsets of 16 to 256 pairs"),
):
    protocols.register(_name, f"obdbench.evaluation.{_target}", summary=_summary)

D4RL_NAMES = tuple(
    f"{task}-{level}"
    for task in ("hopper", "walker2d", "halfcheetah")
    for level in ("medium-replay", "medium", "medium-expert")
)

for _format, _target, _summary in (
    (
        "embedded/{}-v1",
        "datasets.embedded:load",
        "collected by this project with D4RL's recipe, included in the package",
    ),
    ("d4rl/{}-v2", "datasets.d4rl:load", "original D4RL file, downloaded"),
):
    for _name in D4RL_NAMES:
        datasets.register(_format.format(_name), f"obdbench.{_target}", summary=_summary)
for _name in ("hopper", "halfcheetah", "walker2d"):
    for _level in ("simple", "medium", "expert"):
        datasets.register(
            f"minari/mujoco/{_name}/{_level}-v0",
            "obdbench.datasets.minari:load",
            summary="Minari dataset, loaded with the minari package",
        )

for _name, _target, _summary in (
    ("embedded", "loading:load_embedded_teacher", "shipped with the embedded dataset"),
    (
        "published",
        "published:load_published_teacher",
        "Cal-QL policy published for the D4RL dataset",
    ),
    ("td3-bc", "loading:load_td3_bc_teacher", "trained by `obdbench teach` with TD3+BC"),
    ("iql", "loading:load_iql_teacher", "trained by `obdbench teach` with IQL"),
    ("cal-ql", "loading:load_cal_ql_teacher", "trained by `obdbench teach` with Cal-QL"),
    (
        "fitted-q",
        "loading:load_fitted_q_teacher",
        "policy with a critic that `obdbench teach` fitted",
    ),
):
    teachers.register(_name, f"obdbench.teachers.{_target}", summary=_summary)

for _name, _env_id in (
    ("hopper", "Hopper-v4"),
    ("walker2d", "Walker2d-v4"),
    ("halfcheetah", "HalfCheetah-v4"),
    ("ant", "Ant-v4"),
    ("hopper-v5", "Hopper-v5"),
    ("walker2d-v5", "Walker2d-v5"),
    ("halfcheetah-v5", "HalfCheetah-v5"),
    ("ant-v5", "Ant-v5"),
    ("pendulum", "Pendulum-v1"),
):
    _constant = _name.upper().replace("-", "_")
    tasks.register(
        _name, f"obdbench.tasks.task:{_constant}", summary=f"Gymnasium environment {_env_id}"
    )
tasks.register(
    "pen",
    "obdbench.tasks.registration:PEN",
    summary="environment AdroitHandPen-v1 of the package gymnasium-robotics",
)
