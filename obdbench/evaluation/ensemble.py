"""Several students that act together by their mean action: the papers' table 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from obdbench.datasets.dataset import Array
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.evaluation.protocol import LEARNING_RATE, STEPS, Arm, Protocol
from obdbench.evaluation.students import score_ensemble
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Params


class Ensemble(Protocol):
    """All students of a seed form one policy that takes their mean action."""

    name: ClassVar[str] = "ensemble"

    def __init__(
        self,
        *,
        policies: int = 10,
        episodes: int = 10,
        points: int | None = 5,
        steps: int = STEPS,
        lr: float = LEARNING_RATE,
    ) -> None:
        super().__init__(policies=policies, episodes=episodes, points=points, steps=steps, lr=lr)

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
