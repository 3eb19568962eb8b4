"""The default protocol with noise on the students' actions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, ClassVar

import numpy as np

from obdbench import Synset
from obdbench.evaluation import students
from obdbench.evaluation.protocol import Protocol
from obdbench.policies.cloning import CloningConfig
from obdbench.tasks.rollout import run_episodes

NOISE_STREAM = 201  # a random stream that obdbench itself does not use


class Disturbed(Protocol):
    """Adds Gaussian noise of standard deviation ``sigma`` to every action of every student."""

    name: ClassVar[str] = "disturbed"

    def __init__(
        self,
        *,
        sigma: float = 0.1,
        policies: int = 10,
        episodes: int = 3,
        points: int | None = 1,
        steps: int = 100,
        lr: float = 0.1,
    ) -> None:
        super().__init__(policies=policies, episodes=episodes, points=points, steps=steps, lr=lr)
        self.sigma = sigma

    def run_students(
        self, cloning: CloningConfig, params: Any, synsets: Sequence[Synset], seeds: Sequence[int]
    ) -> np.ndarray:
        """Raw returns, (seed, policy, episode).

        All seeds run in one call. Each seed has its own noise generator, so that the score of a
        seed does not depend on the other seeds.
        """
        task = synsets[0].task
        slots = self.policies * self.episodes
        standardizers = [synset.standardizer for synset in synsets for _ in range(self.policies)]
        actor = students.BatchedActor(cloning.architecture, params, standardizers, self.episodes)
        resets: list[int] = []
        noise = []
        for seed, synset in zip(seeds, synsets, strict=True):
            step = int(synset.card.get("step", 0))
            resets += students.episode_seeds(seed, step, self.policies, self.episodes)
            rng = np.random.default_rng([seed, step, NOISE_STREAM])
            shape = (slots, task.episode_limit, task.action_size)
            noise.append(self.sigma * rng.standard_normal(shape, dtype=np.float32))
        noise_of_slot, steps = np.concatenate(noise), count()

        def act(observations: np.ndarray, running: np.ndarray) -> np.ndarray:
            return np.clip(
                actor(observations, running) + noise_of_slot[running, next(steps)], -1, 1
            )

        returns = run_episodes(act, task, resets).returns
        return returns.reshape(len(synsets), self.policies, self.episodes)
