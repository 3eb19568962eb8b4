"""Makers of toy data: small, seeded, done in milliseconds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from obdbench.datasets.dataset import Dataset, Standardizer
from obdbench.tasks.task import TASKS
from obdbench.teachers.teacher import Layers, Teacher


def toy_network(sizes: tuple[int, ...], seed: int) -> Layers:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        (
            torch.randn(rows, columns, generator=generator) / columns**0.5,
            0.1 * torch.randn(rows, generator=generator),
        )
        for columns, rows in pairwise(sizes)
    )


def make_toy_dataset(size: int = 600, task: str = "hopper", seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    known = TASKS[task]
    mixing = rng.normal(size=(known.observation_size, known.observation_size))
    terminals = np.zeros(size, bool)
    terminals[49::50] = True
    return Dataset(
        id=f"toy/{task}",
        task=known,
        observations=(rng.normal(size=(size, known.observation_size)) @ mixing).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, known.action_size)).astype(np.float32),
        rewards=rng.normal(size=size).astype(np.float32),
        terminals=terminals,
    )


def make_toy_teacher(dataset: Dataset, seed: int = 0) -> Teacher:
    observation, action = dataset.observation_size, dataset.action_size
    return Teacher(
        id="toy",
        actor=toy_network((observation, 32, 2 * action), seed),
        critics=tuple(toy_network((observation + action, 32, 1), seed + i) for i in (1, 2)),
        standardizer=Standardizer.fit(dataset.observations),
    )
