"""What a trial is, in full: the resolved spec, and the hash that names it.

Two trials with equal specs are the same trial. ``key`` names a trial's result, ``distill_key``
the synsets that trials of several protocols share.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from obdbench.bench.code import distilling
from obdbench.distill.settings import DistillSettings


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
    code: str | None = Field(default=None, description="hash of own code (obdbench/bench/code.py)")

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
        """Short human-readable name."""
        return f"{self.dataset} {self.objective} {self.protocol}"
