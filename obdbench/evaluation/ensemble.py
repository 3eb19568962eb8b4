"""Several students that act together by their mean action: the papers' table 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from obdbench.datasets.dataset import Array
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.evaluation.protocol import Arm, Protocol
from obdbench.evaluation.students import score_ensemble
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Params


@dataclass(kw_only=True, eq=False)
class Ensemble(Protocol):
    """All students of a seed form one policy that takes their mean action."""

    name: ClassVar[str] = "ensemble"
    episodes: int = 10
    points: int | None = 5

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """The default students."""
        return [Arm("ensemble", self.default_cloning(settings))]

    def run_students(
        self,
        cloning: CloningConfig,
        params: Params,
        synsets: Sequence[Synset],
        seeds: Sequence[int],
    ) -> Array:
        """Raw returns, (seed, 1, episode)."""
        return score_ensemble(cloning, params, synsets, seeds, self.policies, self.episodes)
