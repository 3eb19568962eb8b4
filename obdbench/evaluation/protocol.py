r"""The base class of protocols.

A protocol scores a synset: it trains new students on the synset, runs deterministic episodes in the
D4RL-comparable environment, and normalizes the mean return as D4RL does. Protocols differ in which
students they train (*arms*), in how students act, and in which synsets they score. Results contain
the return of every policy and episode; statistics treat the seed as the unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from obdbench.datasets.dataset import Array
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidSettingError
from obdbench.evaluation.students import (
    BatchedActor,
    episode_seeds,
    outer_step,
    train_students,
)
from obdbench.objectives.objective import check_range
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Params, get_architecture
from obdbench.policies.optimizers import get_optimizer
from obdbench.registry import parameters_of, protocols
from obdbench.tasks.rollout import run_episodes
from obdbench.tasks.task import normalized_return

STEPS, LEARNING_RATE = 100, 0.1
PUBLISHED_STEPS = 500
MIN_LEARNING_RATE = 1e-12
MAX_COUNT = 1_000_000


@dataclass(frozen=True)
class SeedScore:
    """The score of one seed under one arm."""

    seed: int
    arm: str
    returns: list[list[float]]
    normalized_return: float


@dataclass(frozen=True)
class Arm:
    """One named configuration of students."""

    name: str
    cloning: CloningConfig


@dataclass(kw_only=True, eq=False)
class Protocol:
    """Base class: train students per arm and run episodes with each.

    Settings are the keyword arguments of ``__init__``. ``policies`` is the number of students per
    arm, ``episodes`` the number of episodes per student, and ``points`` the number of last
    evaluation points to score (all if None). Students train for ``steps`` steps of SGD at learning
    rate ``lr``: 100 steps at 0.1 as published, independent of the inner loop of the distillation.
    """

    name: ClassVar[str] = ""
    policies: int = 10
    episodes: int = 3
    points: int | None = None
    steps: int = STEPS
    lr: float = LEARNING_RATE

    def __post_init__(self) -> None:
        check_count("policies", self.policies)
        check_count("episodes", self.episodes)
        if self.points is not None:
            check_count("points", self.points)
        check_count("steps", self.steps)
        check_range("lr", self.lr, MIN_LEARNING_RATE, 100.0)
        self.lr = float(self.lr)

    def settings(self) -> dict[str, Any]:
        """The keyword arguments of ``__init__``, JSON-serializable."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}

    def select(self, steps: list[int]) -> list[int]:
        """The evaluation points to score, out of those of the distillation."""
        return sorted(steps)[-(self.points or len(steps)) :]

    def variants(self, settings: DistillSettings) -> list[DistillSettings]:
        """The distillations to score; one, except for the protocol ``size``."""
        return [settings]

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """The students to train."""
        return [Arm("default", self.default_cloning(settings))]

    def default_cloning(self, settings: DistillSettings) -> CloningConfig:
        """Students of the architecture of the distillation, trained with this protocol's SGD."""
        return CloningConfig(
            get_architecture(settings.architecture), get_optimizer("sgd"), self.lr, self.steps
        )

    def score(
        self, synsets: Sequence[Synset], settings: DistillSettings, seeds: Sequence[int]
    ) -> list[SeedScore]:
        """Score the synset of every seed under every arm."""
        arms = self.arms(settings)
        if len({arm.name for arm in arms}) < len(arms):
            raise InvalidSettingError(
                f"The protocol {self.name!r} has several arms of the same name.",
                "Give each arm a different name.",
            )
        scores = []
        for arm in arms:
            params = train_students(arm.cloning, synsets, seeds, self.policies, settings)
            returns = self.run_students(arm.cloning, params, synsets, seeds)
            for seed, synset, seed_returns in zip(seeds, synsets, returns, strict=True):
                mean = float(np.mean(normalized_return(synset.task, seed_returns)))
                scores.append(SeedScore(seed, arm.name, seed_returns.tolist(), mean))
        return scores

    def run_students(
        self,
        cloning: CloningConfig,
        params: Params,
        synsets: Sequence[Synset],
        seeds: Sequence[int],
    ) -> Array:
        """Raw returns of independent students, (seed, policy, episode)."""
        standardizers = [synset.standardizer for synset in synsets for _ in range(self.policies)]
        if all(standardizer is standardizers[0] for standardizer in standardizers):
            standardizers = standardizers[:1]
        actor = BatchedActor(cloning.architecture, params, standardizers, self.episodes)
        resets = [
            reset
            for seed, synset in zip(seeds, synsets, strict=True)
            for reset in episode_seeds(seed, outer_step(synset), self.policies, self.episodes)
        ]
        returns = run_episodes(actor, synsets[0].task, resets).returns
        return np.asarray(returns).reshape(len(synsets), self.policies, self.episodes)


class Default(Protocol):
    """New students of the distilling architecture: the score of the papers' main tables."""

    name: ClassVar[str] = "default"


def check_count(name: str, value: int) -> int:
    """The value if it is a positive integer, else an error."""
    if type(value) is not int or not 1 <= value <= MAX_COUNT:
        raise InvalidSettingError(f"{name} is {value!r}.", "Choose a positive whole number.")
    return value


def make_protocol(name: str, params: Mapping[str, Any] | None = None) -> Protocol:
    """Create a protocol by name and check its settings."""
    protocol: Protocol = protocols.create_with(name, params or {})
    return protocol
