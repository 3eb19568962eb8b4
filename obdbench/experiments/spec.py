"""What a trial is, in full: the resolved spec, and the hash that names it.

Two trials with equal specs are the same trial. ``key`` names a trial's result, ``distill_key``
the synsets that trials of several protocols share.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from obdbench.distillation.settings import DistillSettings
from obdbench.experiments.fingerprint import distilling


def digest(content: Any) -> str:
    """Short stable hash of JSON-serializable content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class TrialSpec(BaseModel):
    """One (dataset, objective, protocol, settings) over its seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    objective: str
    objective_params: dict[str, Any] = Field(default_factory=dict)
    protocol: str = "default"
    protocol_params: dict[str, Any] = Field(default_factory=dict)
    preset: str = "fast"
    settings: DistillSettings = Field(default_factory=lambda: DistillSettings())
    seeds: tuple[int, ...] = (0, 1, 2)
    code: str | None = Field(
        default=None, description="hash of own code (obdbench/experiments/fingerprint.py)"
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds are distinct non-negative integers, at least one")
        return seeds

    def distill_content(self) -> dict[str, Any]:
        """The part of the spec that fixes the synsets."""
        content = self._content()
        for name in ("protocol", "protocol_params"):
            content.pop(name)
        code = distilling(content.pop("code", None))
        return content if code is None else {**content, "code": code}

    def _content(self) -> dict[str, Any]:
        content = self.model_dump(mode="json")
        content.pop("preset")
        for name in self.settings.idle:
            content["settings"].pop(name)
        if self.code is None:
            content.pop("code")
        return content

    @property
    def distill_key(self) -> str:
        """Names the synsets."""
        return digest(self.distill_content())

    @property
    def key(self) -> str:
        """Names the result."""
        return digest(self._content())

    def label(self) -> str:
        """Short human-readable name; :func:`labels` tells apart what it does not."""
        size = f" {self.settings.pairs}" if self.protocol == "size" else ""
        held = details(self.objective_params)
        return f"{self.dataset} {self.objective}{held} {self.protocol}{size}"

    def facts(self) -> dict[str, Any]:
        """What a label leaves out, by name."""
        settings = self.settings.model_dump(mode="json")
        content: dict[str, Any] = {"preset": self.preset, "code": self.code}
        for name, value in self.protocol_params.items():
            content[f"{self.protocol} {name}" if name in settings else name] = value
        return {**content, **settings, "seeds": list(self.seeds)}


def labels(specs: Sequence[TrialSpec]) -> list[str]:
    """A name for each trial, with whatever else tells it apart from others of its name."""
    alike: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for spec in specs:
        alike[spec.label()].append(spec.facts())
    found = []
    for spec in specs:
        others, told = alike[spec.label()], {}
        for name, value in spec.facts().items():
            same = [other for other in others if name in other and other[name] == value]
            if len(same) < len(others):
                others, told[name] = same, value
        found.append(f"{spec.label()}{details(told)}")
    return found


def details(params: Mapping[str, Any]) -> str:
    """Names and values in brackets, nothing where there are none."""
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in params.items()}
    shown = ", ".join(f"{name}={texts[name]}" for name in sorted(texts))
    return f" ({shown})" if shown else ""
