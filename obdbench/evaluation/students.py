"""New students: cloned on synsets and run in the environment as one stack of policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Array, Standardizer
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidDataError
from obdbench.policies.cloning import CloningConfig, clone
from obdbench.policies.networks import Architecture, Params, seeded_generator

INITIALIZATION_STREAM, NOISE_STREAM, EPISODE_STREAM = 101, 102, 103


def train_students(
    cloning: CloningConfig,
    synsets: Sequence[Synset],
    seeds: Sequence[int],
    policies: int,
    settings: DistillSettings,
) -> Params:
    """Train ``policies`` students per synset as one stack, in the order of the seeds.

    Each student has its own random generators, derived from seed, outer step and student number,
    so that a student does not depend on other students or on other evaluation points.
    """
    task = synsets[0].task
    keys = [
        (seed, outer_step(synset), number)
        for seed, synset in zip(seeds, synsets, strict=True)
        for number in range(policies)
    ]
    generators = [
        seeded_generator(seed, INITIALIZATION_STREAM, step, number) for seed, step, number in keys
    ]
    params = cloning.architecture.init(generators, task.observation_size, task.action_size)
    states = _repeat_per_policy([synset.states for synset in synsets], policies)
    actions = _repeat_per_policy([synset.actions for synset in synsets], policies)
    if settings.noise == "none":
        return clone(cloning, params, states, actions)
    noise_generators = [
        seeded_generator(seed, NOISE_STREAM, step, number) for seed, step, number in keys
    ]

    def draw_noise(_: int) -> Tensor:
        return torch.stack(
            [torch.randn(actions.shape[1:], generator=generator) for generator in noise_generators]
        )

    return clone(cloning, params, states, actions, draw_noise)


def outer_step(synset: Synset) -> int:
    """The outer step of a synset, which its students' generators depend on; 0 by default."""
    return read_card_integer(synset, "step", "Write a whole number from 0 into the card.")


def read_card_integer(synset: Synset, name: str, remedy: str) -> int:
    """A non-negative integer of a synset's card, 0 if it is absent."""
    number = synset.card.get(name, 0)
    if type(number) is not int or number < 0:
        raise InvalidDataError(f"The synset's card contains the {name} {number!r}.", remedy)
    return number


def _repeat_per_policy(arrays: Sequence[Array], policies: int) -> Tensor:
    stacked = torch.from_numpy(np.stack([np.asarray(array, np.float32) for array in arrays]))
    return stacked.repeat_interleave(policies, 0)


@dataclass
class BatchedActor:
    """Acts for a stack of policies with ``episodes`` slots each, and drops finished policies."""

    architecture: Architecture
    params: Params
    standardizers: Sequence[Standardizer]
    episodes: int

    def __post_init__(self) -> None:
        self.active_policies = np.arange(self._policy_count)
        self.active_params = self.params

    @property
    def _policy_count(self) -> int:
        return len(next(iter(self.params.values())))

    @torch.no_grad()
    def __call__(self, observations: Array, slots: Array) -> Array:
        """Deterministic actions for the running slots, computed in one call of all policies."""
        policy_of_slot = slots // self.episodes
        running = np.unique(policy_of_slot)
        if not np.isin(running, self.active_policies).all():  # a new set of episodes begins
            self.active_policies, self.active_params = np.arange(self._policy_count), self.params
        if len(running) <= len(self.active_policies) // 2:
            self.active_policies = running
            self.active_params = {name: value[running] for name, value in self.params.items()}
        row = np.searchsorted(self.active_policies, policy_of_slot)
        counts = np.bincount(row, minlength=len(self.active_policies))
        first_slot = np.concatenate([[0], np.cumsum(counts)[:-1]])
        column = np.arange(len(slots)) - first_slot[row]
        shape = (len(self.active_policies), counts.max(), observations.shape[1])
        padded = np.zeros(shape, np.float32)
        padded[row, column] = self._standardize(observations, policy_of_slot)
        actions = self.architecture.act(self.active_params, torch.from_numpy(padded)).numpy()
        return np.asarray(actions[row, column])

    def _standardize(self, observations: Array, policy_of_slot: Array) -> Array:
        if len(self.standardizers) == 1:
            return self.standardizers[0].apply(observations)
        mean = np.stack([s.mean for s in self.standardizers])[policy_of_slot]
        scale = np.stack([s.scale for s in self.standardizers])[policy_of_slot]
        return np.asarray((observations - mean) / scale, np.float32)


def episode_seeds(seed: int, step: int, policies: int, episodes: int) -> list[int]:
    """Reset seeds of the episodes of one seed, in the order of the policies."""
    sequence = np.random.SeedSequence([seed, EPISODE_STREAM, step])
    return [int(value) & 0x7FFFFFFF for value in sequence.generate_state(policies * episodes)]
