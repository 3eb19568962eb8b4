"""Suites: grids of trials, read from TOML files and expanded to trial specs.

::

    summary = "one line"
    preset = "fast"                              # built-in preset or a file in presets/
    datasets = ["embedded/hopper-medium-replay-v1"]
    objectives = ["random", "pbc", { name = "sdw", params = { base = "pbc" } }]
    protocols = ["default", { name = "ensemble", params = { policies = 5 } }]
    seeds = "0-4"                                # or a list
    seeds_per_trial = 3                          # trials of the seeds 0 to 2 and 3 to 4
    [settings]                                   # overrides of the preset
    steps = 500
    [teachers]                                   # of other data than the dataset's own teacher
    "file:hopper-mine.hdf5" = "td3-bc"           # registered name or path
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from obdbench import registry
from obdbench.datasets.identifier import DatasetId, resolve_registered_name
from obdbench.distillation.settings import DistillSettings, parse_none
from obdbench.errors import (
    InvalidSettingError,
    UnknownNameError,
    translate_validation_error,
    unknown_name,
)
from obdbench.experiments.presets import check_keys, load_preset, parse_value, read_toml
from obdbench.experiments.spec import END_OF_SEEDS, TrialSpec, format_params
from obdbench.registry import Registry

if TYPE_CHECKING:
    from obdbench.objectives.objective import Objective

SUITES = Path(__file__).parent / "suites"
SUITE_ORDER = (
    "smoke",
    "quick",
    "embedded",
    "embedded-protocols",
    "embedded-size",
    "d4rl",
    "minari",
    "paper",
)
# The settings on which undistilled pairs and their scores depend
UNDISTILLED_SETTINGS = {"pairs", "architecture", "noise", "init", "init_labels"}
MAX_SEEDS = 1000


class NamedComponent(BaseModel):
    """The name of a registered component, and its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class Suite(BaseModel):
    """A named grid of trials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    preset: str = "fast"
    datasets: tuple[str, ...]
    objectives: tuple[NamedComponent, ...]
    protocols: tuple[NamedComponent, ...] = (NamedComponent(name="default"),)
    seeds: tuple[int, ...] = (0, 1, 2)
    seeds_per_trial: int | None = Field(None, ge=1)  # None: all seeds in one trial
    settings: dict[str, Any] = Field(default_factory=dict)
    teachers: dict[str, str] = Field(default_factory=dict)

    @field_validator("objectives", "protocols", mode="before")
    @classmethod
    def _expand_names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": item} if isinstance(item, str) else item for item in value]

    @field_validator("seeds", mode="before")
    @classmethod
    def _parse_seeds(cls, value: Any) -> Any:
        return parse_seeds(value) if isinstance(value, str) else value

    def select(
        self,
        *,
        objectives: Sequence[str] = (),
        datasets: Sequence[str] = (),
        protocols: Sequence[str] = (),
        seeds: Sequence[int] = (),
        preset: str | None = None,
        settings: dict[str, Any] | None = None,
        teachers: Sequence[str] = (),
    ) -> Suite:
        """Return the suite with parts of its grid replaced.

        An objective or protocol is named with its parameters, as in ``random (labels=teacher)``. A
        name alone selects the entry without parameters or, if the suite has none, all entries of
        that name. A teacher is written as ``TEACHER``, for all datasets, or as ``DATASET=TEACHER``.
        A preset replaces the settings of the suite whose values it states.
        """
        stated = load_preset(preset).stated_settings() if preset else {}
        kept = {name: value for name, value in self.settings.items() if name not in stated}
        changes: dict[str, Any] = {"settings": {**kept, **(settings or {})}}
        if objectives:
            changes["objectives"] = _select(self.objectives, objectives, registry.objectives)
        if protocols:
            changes["protocols"] = _select(self.protocols, protocols, registry.protocols)
        if datasets:
            changes["datasets"] = tuple(datasets)
            changes["teachers"] = {d: t for d, t in self.teachers.items() if d in datasets}
        if seeds:
            changes["seeds"] = tuple(seeds)
        if preset:
            changes["preset"] = preset
        if teachers:
            selected = parse_teachers(teachers, changes.get("datasets", self.datasets))
            changes["teachers"] = {**changes.get("teachers", self.teachers), **selected}
        return self.model_copy(update=changes)

    def specs(self) -> list[TrialSpec]:
        """Expand the grid to trials, with every name, parameter and setting validated."""
        from obdbench.distillation.initialization import needs_teacher
        from obdbench.distillation.input_checks import check_compatible
        from obdbench.evaluation.protocol import make_protocol
        from obdbench.objectives.objective import make_objective

        preset = load_preset(self.preset)
        settings = preset.resolve(self.settings)
        dataset_ids = [resolve_dataset_id(dataset_id) for dataset_id in self.datasets]
        named = self._resolve_teachers(dataset_ids)
        identify = cache(partial(identify_teacher, named))
        objectives: list[tuple[str, dict[str, Any], Objective]] = []
        for component in self.objectives:
            name = registry.objectives.resolve_name(component.name)
            params = {**preset.objectives.get(name, {}), **component.params}
            objective = make_objective(name, params)
            objectives.append((name, changed_params(registry.objectives, name, params), objective))
        protocols = []
        for protocol in self.protocols:
            name = registry.protocols.resolve_name(protocol.name)
            made = make_protocol(name, protocol.params)
            stated = changed_params(registry.protocols, name, protocol.params)
            protocols.append((name, stated, made.variants(settings)))
        check_compatible(
            [objective for _, _, objective in objectives],
            [variant for _, _, variants in protocols for variant in variants],
        )
        specs = [
            _make_spec(
                dataset=dataset_id,
                **(identify(dataset_id) if needs_teacher(objective, variant) else {}),
                objective=objective_name,
                objective_params=objective_params,
                protocol=protocol_name,
                protocol_params=protocol_params,
                preset=self.preset,
                settings=_settings_of(objective, variant),
                seeds=seeds,
            )
            for dataset_id in dataset_ids
            for objective_name, objective_params, objective in objectives
            for protocol_name, protocol_params, variants in protocols
            for variant in variants
            for seeds in self._seed_groups()
        ]
        if not specs:
            raise InvalidSettingError(
                f"The suite {self.name!r} contains no trials.",
                "Name at least one dataset, one objective and one protocol.",
            )
        return list({spec.key: spec for spec in specs}.values())

    def _seed_groups(self) -> list[tuple[int, ...]]:
        """The seeds of each trial of a combination."""
        size = self.seeds_per_trial or max(1, len(self.seeds))
        return [self.seeds[i : i + size] for i in range(0, len(self.seeds), size)] or [self.seeds]

    def _resolve_teachers(self, dataset_ids: Sequence[str]) -> dict[str, str]:
        """The teachers by resolved identifier; one of a dataset outside the grid is an error."""
        resolved = {resolve_dataset_id(name): teacher for name, teacher in self.teachers.items()}
        for dataset_id in resolved:
            if dataset_id not in dataset_ids:
                raise unknown_name("dataset of this suite", dataset_id, dataset_ids)
        return resolved


def changed_params(known: Registry, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that differ from their defaults, which alone enter the key of a trial.

    An integer for a parameter whose default is a decimal number becomes one: 4 is 4.0.
    """
    component = known.get(name)
    defaults = registry.parameters_of(component) if isinstance(component, type) else {}
    defaults = {n: list(v) if isinstance(v, tuple) else v for n, v in defaults.items()}
    values = {
        n: float(v) if type(v) is int and type(defaults.get(n)) is float else v
        for n, v in params.items()
    }
    return {n: v for n, v in values.items() if n not in defaults or defaults[n] != v}


def _make_spec(**content: Any) -> TrialSpec:
    with translate_validation_error("Fix the suite file or the options."):
        spec = TrialSpec(**content)
    return spec.model_copy(update={"code": spec.fingerprint_code()})


def _select(
    components: Iterable[NamedComponent], names: Sequence[str], known: Registry
) -> tuple[NamedComponent, ...]:
    selected: list[NamedComponent] = []
    for text in names:
        name, params = parse_row(text)
        name = known.resolve_name(name)
        of_name = [item for item in components if known.resolve_name(item.name) == name]
        plain = [item for item in of_name if not changed_params(known, name, item.params)]
        matching = [] if params else plain or of_name
        selected += matching or [NamedComponent(name=name, params=params)]
    return tuple(selected)


def parse_row(text: str) -> tuple[str, dict[str, Any]]:
    """Separate a name from its parameters, as in ``sdw (lambda_1=0.2, base=pbc)``."""
    name, _, params = text.strip().partition(" (")
    params = params.removesuffix(")")
    assignments = re.split(r", (?=\w+=)", params) if params else []
    pairs = (assignment.partition("=") for assignment in assignments)
    return name, {key: parse_value(value) for key, _, value in pairs}


def split_row_settings(row: str) -> tuple[str, dict[str, Any]]:
    """Separate a row's name, as ``av-pbc (beta=0.05, solver=full)``, from its settings.

    Returns the objective with its parameters, ``av-pbc (beta=0.05)``, and the settings of the
    distillation, ``{"solver": "full"}``. The name may also state the ``preset``.
    """
    name, params = parse_row(row)
    known = {"preset", *DistillSettings.model_fields}
    settings = {key: parse_none(key, value) for key, value in params.items() if key in known}
    if not settings:
        return row, {}
    if "solver" in settings:
        settings["solver"] = registry.solvers.resolve_name(str(settings["solver"]))
    rest = {key: value for key, value in params.items() if key not in settings}
    return name + format_params(rest), settings


def parse_teachers(texts: Iterable[str], datasets: Iterable[str]) -> dict[str, str]:
    """Map datasets to teachers, from ``TEACHER`` (of all datasets) and ``DATASET=TEACHER``."""
    known = list(datasets)
    chosen: dict[str, str] = {}
    for text in texts:
        dataset = next((name for name in known if text.startswith(f"{name}=")), None)
        if dataset is not None:
            chosen[dataset] = text.removeprefix(f"{dataset}=")
        elif "=" in text and not Path(text).exists():
            name = text.rpartition("=")[0]
            remedy = unknown_name("dataset", name, known).remedy
            raise UnknownNameError(f"The run contains no dataset {name!r}.", remedy)
        else:
            chosen |= dict.fromkeys(known, text)
    return chosen


def identify_teacher(teachers: Mapping[str, str], dataset_id: str) -> dict[str, str]:
    """The fields ``teacher`` and ``teacher_checksum`` of trials of a dataset.

    They are absent where nothing is named and the dataset has a teacher that cannot change. A
    teacher that ``obdbench teach`` trained is named even where it is the default.
    """
    from obdbench.teachers.loading import find_default_teacher_name, load_teacher

    name = teachers.get(dataset_id) or find_default_teacher_name(dataset_id)
    if name is None:
        return {}
    return {"teacher": name, "teacher_checksum": load_teacher(dataset_id, name).checksum}


def _settings_of(objective: Objective, settings: DistillSettings) -> DistillSettings:
    """The settings that affect a trial: those of the outer loop do not affect undistilled pairs.

    A selection method that is its own row does not start from the pairs of ``init`` either.
    """
    from obdbench.selection.undistilled import SelectedPairs

    if objective.distills:
        return settings
    start = {"init", "init_labels"} if isinstance(objective, SelectedPairs) else set()
    return DistillSettings(**settings.model_dump(include=UNDISTILLED_SETTINGS - start))


def resolve_dataset_id(dataset_id: str) -> str:
    """Return a registered dataset's name, or the identifier if its source resolves any name."""
    if DatasetId(dataset_id).is_open and dataset_id not in registry.datasets:
        return dataset_id
    return resolve_registered_name(dataset_id)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds such as ``"0-4"``, ``"3"`` or ``"0,2,5-7"``."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_seed(first) or (dash and not _is_seed(last)):
            raise InvalidSettingError(
                f"{text!r} is not a list of seeds.", "Write 0-4, 3 or 0,2,5-7."
            )
        low, high = int(first), int(last) if dash else int(first)
        if high < low or len(seeds) + high - low >= MAX_SEEDS:
            raise InvalidSettingError(
                f"{text!r} is not a range of at most {MAX_SEEDS} seeds.",
                "Write the smaller seed first, as in 0-4.",
            )
        seeds += range(low, high + 1)
    return tuple(dict.fromkeys(seeds))


def _is_seed(text: str) -> bool:
    return text.isdecimal() and len(text) < len(str(END_OF_SEEDS))


def list_suites() -> list[str]:
    """List the names of the suites in the package, from small to large."""
    names = sorted(path.stem for path in SUITES.glob("*.toml"))
    return sorted(names, key=lambda name: SUITE_ORDER.index(name) if name in SUITE_ORDER else 99)


def load_suite(name: str) -> Suite:
    """Load a suite of the package by name, or any suite by the path of its TOML file."""
    path = Path(name) if name.endswith(".toml") else SUITES / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise InvalidSettingError(f"There is no suite file {name}.", "Check the path.")
        if Path(f"{name}.toml").is_file():
            raise InvalidSettingError(
                f"{name!r} is not the name of a suite.", f"Write {name}.toml for the file."
            )
        raise unknown_name("suite", name, list_suites())
    content = read_toml(path)
    check_keys(path, content, list(Suite.model_fields))
    with translate_validation_error("Fix the suite file.", f"{path}: "):
        return Suite(**{"name": path.stem, **content})
