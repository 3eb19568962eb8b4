"""Several students that act together by their mean action: the papers' table 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from obdbench.datasets.dataset import Array
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.evaluation.protocol import Arm, Protocol
from obdbench.evaluation.students import episode_seeds, outer_step
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Params
from obdbench.tasks.rollout import run_episodes


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
        returns = []
        for index, (seed, synset) in enumerate(zip(seeds, synsets, strict=True)):
            group = slice(index * self.policies, (index + 1) * self.policies)
            members = {name: value[group] for name, value in params.items()}

            @torch.no_grad()
            def act(
                observations: Array, _: Array, members: Params = members, synset: Synset = synset
            ) -> Array:
                states = torch.from_numpy(synset.standardizer.apply(observations))
                return np.asarray(cloning.architecture.act(members, states).mean(0).numpy())

            resets = episode_seeds(seed, outer_step(synset), 1, self.episodes)
            returns.append(run_episodes(act, synset.task, resets).returns)
        return np.stack(returns)[:, None, :]
