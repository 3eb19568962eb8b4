"""The stochastic policy of a SAC run at one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from obdbench.datasets.dataset import Array
from obdbench.tasks.rollout import Episodes, run_episodes
from obdbench.tasks.task import Task

LOG_STD_BOUNDS = (-20.0, 2.0)


@dataclass(frozen=True)
class Actor:
    """A tanh-Gaussian MLP with two hidden ReLU layers, over raw observations.

    ``Dense_0`` and ``Dense_1`` are the hidden layers, ``Dense_2`` gives the mean before the tanh
    and ``Dense_3`` its log standard deviation.
    """

    parameters: Mapping[str, Array]

    @classmethod
    def load(cls, path: Path) -> Actor:
        """Read a checkpoint."""
        return cls(load_file(path))

    def act(self, observations: Array, rng: np.random.Generator | None = None) -> Array:
        """Actions for raw observations: the mode, or a sample if ``rng`` is given."""
        hidden = observations.astype(np.float32)
        for layer in (0, 1):
            hidden = np.maximum(self._dense(hidden, layer), 0)
        before_tanh = self._dense(hidden, 2)
        if rng is not None:
            std = np.exp(np.clip(self._dense(hidden, 3), *LOG_STD_BOUNDS))
            before_tanh = before_tanh + std * rng.standard_normal(std.shape).astype(np.float32)
        return np.asarray(np.tanh(before_tanh), dtype=np.float32)

    def _dense(self, x: Array, layer: int) -> Array:
        kernel, bias = (self.parameters[f"Dense_{layer}/{name}"] for name in ("kernel", "bias"))
        return np.asarray(x @ kernel + bias)

    def rollout(
        self, task: Task, seeds: Sequence[int], *, stochastic: bool, record: bool = False
    ) -> Episodes:
        """One episode per seed; the noise is drawn from a generator seeded with the first seed."""
        rng = np.random.default_rng([seeds[0], int(stochastic)])

        def act(observations: Array, slots: Array) -> Array:
            return self.act(observations, rng if stochastic else None)

        return run_episodes(act, task, seeds, record=record)
