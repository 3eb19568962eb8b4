"""Collect the Ant data of the study `ant-linear`: augmented random search, then episodes.

The policies are linear. Augmented random search (version V2-t; Mania, Guy and Recht, "Simple random
search of static policies is competitive for reinforcement learning", 2018, arXiv 1803.07055) moves
the weights along random directions, each weighted by the difference of its two returns. It trains
without Ant's payment for staying upright, as in the paper, and with episodes of 300 steps. The data
are episodes in the unchanged ``Ant-v4`` with Gaussian noise on the actions, in turn of each
checkpoint of the second half of the search, in D4RL's layout. The search continues when the command
is given again::

    python docs/studies/ant_linear_data.py build/ant-linear.hdf5
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from ant_data import write_episodes

from obdbench.collection.recipe import with_timeouts
from obdbench.errors import run_script
from obdbench.io import replace_atomically
from obdbench.progress_bar import progress_bar
from obdbench.tasks.gymnasium_environment import make_from
from obdbench.tasks.rollout import run_episodes
from obdbench.tasks.simulator import Array
from obdbench.tasks.task import ANT

DIRECTIONS, BEST = 40, 16  # per iteration; directions that enter the step
STEP_SIZE, SEARCH_NOISE = 0.02, 0.03
HORIZON = 300  # steps of an episode of the search
MIN_STD = 1e-2  # of a dimension of the observations
EVERY = 10  # iterations between checkpoints
ACTION_NOISE = 0.1  # standard deviation in the data
FIRST_SEED = 4_000_000


@dataclass(frozen=True)
class Moments:
    """Number, sum and sum of squares of observations."""

    count: Array = field(default_factory=lambda: np.zeros(()))
    total: Array = field(default_factory=lambda: np.zeros(ANT.observation_size))
    squares: Array = field(default_factory=lambda: np.zeros(ANT.observation_size))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )


@dataclass(frozen=True)
class LinearPolicy:
    """Actions linear in the standardized observations, clipped to the bounds."""

    weights: Array
    mean: Array
    std: Array

    def act(self, observations: Array) -> Array:
        """The actions for observations, without noise."""
        standardized = (observations - self.mean) / self.std
        return np.asarray(np.clip(standardized @ self.weights.T, -1, 1))


def make_policy(weights: Array, moments: Moments) -> LinearPolicy:
    """A policy with the moments of all observations so far."""
    if not moments.count:
        ones = np.ones(ANT.observation_size)
        return LinearPolicy(weights, np.zeros_like(ones), ones)
    mean = moments.total / moments.count
    variance = moments.squares / moments.count - mean**2
    return LinearPolicy(weights, mean, np.sqrt(np.maximum(variance, MIN_STD**2)))


@cache
def training_environment() -> Any:
    """Ant-v4 without the payment for staying upright; one per process."""
    return make_from(
        ANT.name,
        lambda: gymnasium.make(ANT.env_id, healthy_reward=0.0, disable_env_checker=True).unwrapped,
    )


def direction(seed: int) -> Array:
    """A random direction of the weights."""
    return np.random.default_rng(seed).standard_normal((ANT.action_size, ANT.observation_size))


def search_episode(job: tuple[LinearPolicy, int]) -> tuple[float, Moments]:
    """The return of an episode of the search, and the moments of its observations."""
    policy, seed = job
    environment, observations, total = training_environment(), [], 0.0
    observation, _ = environment.reset(seed=seed)
    for _ in range(HORIZON):
        observations.append(observation)
        observation, reward, terminated, _, _ = environment.step(policy.act(observation))
        total += float(reward)
        if terminated:
            break
    seen = np.array(observations)
    return total, Moments(np.array(float(len(seen))), seen.sum(0), np.square(seen).sum(0))


def search(folder: Path, iterations: int, workers: int) -> None:
    """Run the search from the last checkpoint in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, moments, start = np.zeros((ANT.action_size, ANT.observation_size)), Moments(), 0
    if checkpoints := sorted(folder.glob("search-*.npz")):
        with np.load(checkpoints[-1], allow_pickle=False) as saved:
            weights, start = saved["weights"], int(saved["iteration"])
            moments = Moments(saved["count"], saved["total"], saved["squares"])
    bar = progress_bar(range(start, iterations), initial=start, total=iterations, unit="iteration")
    with get_context("spawn").Pool(workers) as pool:
        for iteration in bar:
            seeds = [iteration * DIRECTIONS + index for index in range(DIRECTIONS)]
            policies = [
                (make_policy(weights + sign * SEARCH_NOISE * direction(seed), moments), seed)
                for seed in seeds
                for sign in (1, -1)
            ]
            episodes = list(pool.imap(search_episode, policies, chunksize=4))
            returns = np.array([total for total, _ in episodes]).reshape(DIRECTIONS, 2)
            best = np.argsort(-returns.max(1), kind="stable")[:BEST]
            step = sum((returns[i, 0] - returns[i, 1]) * direction(seeds[i]) for i in best)
            weights = weights + STEP_SIZE / (BEST * returns[best].std()) * step
            moments = sum((moments for _, moments in episodes), start=moments)
            bar.set_postfix({"return": f"{returns.mean():.0f}"}, refresh=False)
            if (iteration + 1) % EVERY == 0:
                path = folder / f"search-{iteration + 1:05d}.npz"
                with replace_atomically(path) as temporary, temporary.open("wb") as file:
                    np.savez(file, weights=weights, iteration=iteration + 1, **vars(moments))


def collect(folder: Path, transitions: int) -> list[dict[str, Array]]:
    """Whole episodes, one of each checkpoint in turn."""
    policies = []
    for path in sorted(folder.glob("search-*.npz")):
        with np.load(path, allow_pickle=False) as saved:
            moments = Moments(saved["count"], saved["total"], saved["squares"])
            policies.append(make_policy(saved["weights"], moments))
    policies = policies[len(policies) // 2 :]
    episodes: list[dict[str, Array]] = []
    while sum(len(episode["rewards"]) for episode in episodes) < transitions:
        policy, seed = policies[len(episodes) % len(policies)], FIRST_SEED + len(episodes)
        generator = np.random.default_rng(seed)

        def act(observations: Array, slots: Array) -> Array:
            actions = policy.act(observations)  # noqa: B023
            noise = ACTION_NOISE * generator.standard_normal(actions.shape)  # noqa: B023
            return np.asarray(np.clip(actions + noise, -1, 1), dtype=np.float32)

        episodes.append(with_timeouts(run_episodes(act, ANT, [seed], record=True)))
    return episodes


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="HDF5 file to write")
    parser.add_argument("--run", type=Path, default=Path("build/ant-linear-run"), help="search")
    parser.add_argument("--iterations", type=int, default=200, help="iterations of the search")
    parser.add_argument("--workers", type=int, default=2, help="processes of the search")
    parser.add_argument("--transitions", type=int, default=100_000)
    options = parser.parse_args(arguments)
    search(options.run, options.iterations, options.workers)
    write_episodes(options.path, collect(options.run, options.transitions))


if __name__ == "__main__":
    sys.exit(run_script(main))
