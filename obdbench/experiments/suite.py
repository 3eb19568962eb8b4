"""Suites: a TOML file becomes a list of resolved trials.

::

    summary = "one line"
    preset = "fast"                              # a built-in preset or a file in presets/
    datasets = ["embedded/hopper-medium-replay-v0"]
    objectives = ["random", "pbc", { name = "sdw", params = { base = "pbc" } }]
    protocols = ["default", { name = "ensemble", params = { policies = 5 } }]
    seeds = "0-4"                                # or a list
    [settings]                                   # overrides of the preset
    steps = 500
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.settings import format_validation_error
from obdbench.errors import InvalidSettingError, unknown_name
from obdbench.experiments import presets
from obdbench.experiments.fingerprint import code_fingerprint
from obdbench.experiments.spec import TrialSpec
from obdbench.registry import datasets, objectives, protocols

SUITES = Path(__file__).parent / "suites"
MAX_SEEDS = 1000
MAX_DIGITS = 18  # of a seed; more would not fit everywhere a seed goes


class Named(BaseModel):
    """A registered name with parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class Suite(BaseModel):
    """A grid of trials under a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    preset: str = "fast"
    datasets: tuple[str, ...]
    objectives: tuple[Named, ...]
    protocols: tuple[Named, ...] = (Named(name="default"),)
    seeds: tuple[int, ...] = (0, 1, 2)
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("objectives", "protocols", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": item} if isinstance(item, str) else item for item in value]

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
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
    ) -> Suite:
        """Narrow or replace parts of the grid; what is named keeps the suite's parameters."""
        changes: dict[str, Any] = {"settings": {**self.settings, **(settings or {})}}
        if objectives:
            changes["objectives"] = _pick(self.objectives, objectives, registries["objectives"])
        if protocols:
            changes["protocols"] = _pick(self.protocols, protocols, registries["protocols"])
        if datasets:
            changes["datasets"] = tuple(datasets)
        if seeds:
            changes["seeds"] = tuple(seeds)
        if preset:
            changes["preset"] = preset
        return self.model_copy(update=changes)

    def specs(self) -> list[TrialSpec]:
        """Every trial, resolved and validated: names, parameters, settings."""
        from obdbench.evaluation.protocol import make_protocol
        from obdbench.objectives.objective import make_objective

        preset = presets.load_preset(self.preset)
        settings = preset.resolve(self.settings)
        specs: dict[str, TrialSpec] = {}
        for dataset in self.datasets:
            dataset_id = canonical_dataset(dataset)
            for objective in self.objectives:
                name = objectives.resolve_name(objective.name)
                params = {**preset.objectives.get(name, {}), **objective.params}
                make_objective(name, params)
                for protocol in self.protocols:
                    protocol_name = protocols.resolve_name(protocol.name)
                    rule = make_protocol(protocol_name, protocol.params)
                    for variant in rule.variants(settings):
                        spec = _spec(
                            dataset=dataset_id,
                            objective=name,
                            objective_params=params,
                            protocol=protocol_name,
                            protocol_params=protocol.params,
                            preset=self.preset,
                            settings=variant,
                            seeds=self.seeds,
                            code=code_fingerprint(
                                name, protocol_name, variant.architecture, dataset_id
                            ),
                        )
                        specs[spec.key] = spec
        if not specs:
            raise InvalidSettingError(
                f"The suite {self.name!r} holds no trial.", "Give it datasets and objectives."
            )
        return list(specs.values())


registries = {"objectives": objectives, "protocols": protocols}


def _spec(**content: Any) -> TrialSpec:
    try:
        return TrialSpec(**content)
    except ValidationError as error:
        raise InvalidSettingError(
            format_validation_error(error), "Mend the suite or the call."
        ) from error


def _pick(held: Iterable[Named], wanted: Sequence[str], registry: Any) -> tuple[Named, ...]:
    picked: list[Named] = []
    for name in map(registry.resolve_name, wanted):
        matching = [item for item in held if registry.resolve_name(item.name) == name]
        picked += matching or [Named(name=name)]
    return tuple(picked)


def canonical_dataset(dataset_id: str) -> str:
    """A known identifier, or one that a source resolves by itself."""
    if DatasetId(dataset_id).is_open and dataset_id not in datasets:
        return dataset_id
    return datasets.resolve_name(dataset_id)


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"0-4"``, ``"3"`` or ``"0,2,5-7"``."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_seed(first) or (dash and not _is_seed(last)):
            raise InvalidSettingError(f"{text!r} names no seeds.", "Write 0-4, 3 or 0,2,5-7.")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or len(seeds) + high - low >= MAX_SEEDS:
            raise InvalidSettingError(
                f"{text!r} is no range of seeds, or of more than {MAX_SEEDS}.",
                "Write the smaller seed first, as in 0-4.",
            )
        seeds += range(low, high + 1)
    return tuple(dict.fromkeys(seeds))


def _is_seed(text: str) -> bool:
    return text.isdecimal() and len(text) <= MAX_DIGITS


def suite_names() -> list[str]:
    """The suites that come with the package, small ones first."""
    order = [
        "smoke",
        "quick",
        "embedded",
        "recon",
        "recon-protocols",
        "recon-size",
        "d4rl",
        "paper",
    ]
    found = [path.stem for path in SUITES.glob("*.toml")]
    return sorted(found, key=lambda name: (order.index(name) if name in order else 99, name))


def suite_holding(folder: str, protocol: str) -> str:
    """The shipped suite that puts a protocol into a folder of results, or the folder itself."""
    for name in suite_names():
        suite = load_suite(name)
        if suite.name == folder and any(held.name == protocol for held in suite.protocols):
            return name
    return folder


def load_suite(name: str) -> Suite:
    """A suite by its name, or by the path of a TOML file."""
    path = Path(name) if name.endswith(".toml") else SUITES / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise InvalidSettingError(f"There is no suite file {name}.", "Check the path.")
        raise unknown_name("suite", name, suite_names())
    content = presets.read_toml(path)
    presets.check_keys(path, content, list(Suite.model_fields))
    try:
        return Suite(**{"name": path.stem, **content})
    except ValidationError as error:
        raise InvalidSettingError(
            f"{path}: {format_validation_error(error)}", "Mend the suite."
        ) from error
