"""The resolved specification of a trial, and the hashes that name its files.

Two trials with equal specs are the same trial. ``key`` names the result of a trial;
``distill_key`` names the synsets, which trials under several protocols share.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from obdbench import registry
from obdbench.distillation.settings import DistillSettings
from obdbench.experiments.fingerprint import Component, code_fingerprint
from obdbench.registry import Registry

END_OF_SEEDS = 10**18  # a seed must fit into 64 bits


def canonical_json(content: Any) -> str:
    """JSON that is equal for equal content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def hash_content(content: Any) -> str:
    """Short hash of JSON-serializable content, equal on every machine."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


class TrialSpec(BaseModel):
    """One combination of dataset, objective, protocol and settings, run over its seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    teacher: str | None = Field(
        default=None, description="registered name or path; the dataset's own teacher if absent"
    )
    teacher_checksum: str | None = Field(
        default=None, description="SHA-256 of the weights of a teacher that is named"
    )
    objective: str
    objective_params: dict[str, Any] = Field(default_factory=dict)
    protocol: str = "default"
    protocol_params: dict[str, Any] = Field(default_factory=dict)
    preset: str = "fast"
    settings: DistillSettings = Field(default_factory=lambda: DistillSettings())
    seeds: tuple[int, ...] = (0, 1, 2)
    code: dict[Component, str] = Field(
        default_factory=dict,
        description="hash of the source of each component that is defined outside obdbench",
    )

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if (
            not seeds
            or len(set(seeds)) != len(seeds)
            or not all(0 <= s < END_OF_SEEDS for s in seeds)
        ):
            raise ValueError(
                "seeds are distinct non-negative integers of at most 18 digits, at least one"
            )
        return seeds

    @model_serializer(mode="wrap")
    def _leave_out_absent_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    @property
    def key(self) -> str:
        """Hash that names the result: every field that is set, except the name of the preset."""
        return hash_content(self.model_dump(mode="json", exclude={"preset"}))

    @property
    def distill_key(self) -> str:
        """Hash that names the synsets: every field that affects the distillation."""
        content = self.model_dump(mode="json", exclude={"preset", "protocol", "protocol_params"})
        content["code"].pop("protocol", None)
        return hash_content(content)

    @property
    def distills(self) -> bool:
        """Whether outer steps are taken, or pairs are only selected."""
        return bool(getattr(registry.objectives.get(self.objective), "distills", True))

    def components(self) -> list[tuple[Registry, str]]:
        """The registry and the name of every component of the trial."""
        return [
            (registry.objectives, self.objective),
            (registry.protocols, self.protocol),
            (registry.architectures, self.settings.architecture),
            (registry.datasets, self.dataset),
            (registry.selections, self.settings.init),
            (registry.solvers, self.settings.solver),
            (registry.state_sources, self.settings.state_source),
        ]

    def fingerprint_code(self) -> dict[Component, str]:
        """Hash the source of the trial's components as this process would run them."""
        return code_fingerprint(self.components())

    def label(self) -> str:
        """Short human-readable name; :func:`label_trials` adds what makes it unique."""
        size = f" {self.settings.pairs}" if self.protocol == "size" else ""
        params = format_params(self.objective_params)
        return f"{self.dataset} {self.objective}{params} {self.protocol}{size}"

    def unlabeled_fields(self) -> dict[str, Any]:
        """The values by name that :meth:`label` leaves out."""
        fields: dict[str, Any] = {"preset": self.preset}
        if self.teacher is not None and self.teacher_checksum is not None:
            fields |= {"teacher": self.teacher, "teacher_checksum": self.teacher_checksum[:8]}
        content = self.model_dump(mode="json")
        return {**fields, **flatten_content(self.protocol, content), "seeds": list(self.seeds)}


def flatten_content(protocol: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Code, protocol parameters and settings of a serialized spec, or of a part of it, by name.

    A parameter with the name of a setting has the name of the protocol before its own.
    """
    code = {f"{component} code": source for component, source in content["code"].items()}
    params = {
        f"{protocol} {name}" if name in DistillSettings.model_fields else name: value
        for name, value in content["protocol_params"].items()
    }
    return {**code, **params, **content["settings"]}


def label_trials(specs: Sequence[TrialSpec]) -> list[str]:
    """A unique name per trial: its label, and the fields that tell trials of one label apart."""
    by_label: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for spec in specs:
        by_label[spec.label()].append(spec.unlabeled_fields())
    labels = []
    for spec in specs:
        candidates, distinguishing = by_label[spec.label()], {}
        for name, value in spec.unlabeled_fields().items():
            equal = [fields for fields in candidates if name in fields and fields[name] == value]
            if len(equal) < len(candidates):
                candidates, distinguishing[name] = equal, value
        labels.append(f"{spec.label()}{format_params(distinguishing)}")
    return labels


def format_params(params: Mapping[str, Any]) -> str:
    """``" (name=value, ...)"``, sorted by name; an empty text without parameters."""
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in params.items()}
    joined = ", ".join(f"{name}={texts[name]}" for name in sorted(texts))
    return f" ({joined})" if joined else ""
