"""What a trial is, in full: the resolved spec, and the hash that names it.

Two trials with equal specs are the same trial. ``key`` names a trial's result, ``distill_key``
the synsets that trials of several protocols share.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

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

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds are distinct non-negative integers, at least one")
        return seeds

    def distill_content(self) -> dict[str, Any]:
        """The part of the spec that fixes the synsets."""
        content = self.model_dump(mode="json")
        for name in ("protocol", "protocol_params", "preset"):
            content.pop(name)
        return content

    @property
    def distill_key(self) -> str:
        """Names the synsets."""
        return digest(self.distill_content())

    @property
    def key(self) -> str:
        """Names the result."""
        content = self.model_dump(mode="json")
        content.pop("preset")
        return digest(content)

    def label(self) -> str:
        """Short human-readable name."""
        return f"{self.dataset} {self.objective} {self.protocol}"
