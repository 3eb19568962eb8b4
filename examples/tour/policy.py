"""A user-defined policy with functions to clone and score it, shared by the scripts of the tour.

Only the last function depends on obdbench: any method that learns from (observation, action) pairs
can learn from a synset.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from obdbench.tasks.rollout import run_episodes
from obdbench.tasks.task import Task, normalized_return


class Policy(nn.Module):
    """Two hidden layers with layer normalization; the input is a raw observation."""

    def __init__(self, mean: np.ndarray, scale: np.ndarray, actions: int, width: int = 128) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(np.asarray(mean, np.float32)))
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float32)))
        self.layers = nn.Sequential(
            nn.Linear(len(mean), width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, actions),
            nn.Tanh(),
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Actions for raw observations."""
        return self.layers((observations - self.mean) / self.scale)


def initial_policy(mean: np.ndarray, scale: np.ndarray, actions: int, seed: int) -> Policy:
    """A policy whose initial weights depend only on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Policy(mean, scale, actions)


def clone(
    policy: Policy,
    observations: np.ndarray,
    actions: np.ndarray,
    *,
    steps: int,
    seed: int,
    batch: int = 256,
    lr: float = 1e-3,
) -> float:
    """Behavioral cloning with Adam; returns the loss of the last step."""
    generator = torch.Generator().manual_seed(seed)
    x, a = torch.from_numpy(observations), torch.from_numpy(np.asarray(actions, np.float32))
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
    loss = torch.tensor(float("nan"))
    for _ in range(steps):
        rows = torch.randint(len(x), (min(batch, len(x)),), generator=generator)
        loss = (policy(x[rows]) - a[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def score(policy: Policy, task: Task, *, episodes: int, seed: int = 0) -> np.ndarray:
    """D4RL-normalized returns of deterministic episodes, one an episode."""

    @torch.no_grad()
    def act(observations: np.ndarray, _: np.ndarray) -> np.ndarray:
        return policy(torch.from_numpy(observations.astype(np.float32))).numpy()

    seeds = range(1000 * seed, 1000 * seed + episodes)
    return normalized_return(task, run_episodes(act, task, seeds).returns)
