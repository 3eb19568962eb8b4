"""Fresh students: cloned on synsets and run in the environment, all in one program."""

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
from obdbench.tasks.rollout import run_episodes
from obdbench.tasks.task import Task

INITIAL, NOISE, EPISODES = 101, 102, 103


def train_students(
    how: CloningConfig,
    synsets: Sequence[Synset],
    seeds: Sequence[int],
    policies: int,
    settings: DistillSettings,
) -> Params:
    """``policies`` students per synset, seed-major, as one stack.

    Every student has generators of its own, keyed by seed, outer step and its number, so that
    neither its neighbours nor the other evaluation points change it.
    """
    task = synsets[0].task
    keys = [
        (seed, outer_step(synset), number)
        for seed, synset in zip(seeds, synsets, strict=True)
        for number in range(policies)
    ]
    stack = [seeded_generator(seed, INITIAL, step, number) for seed, step, number in keys]
    params = how.architecture.init(stack, task.observation_size, task.action_size)
    states = _stacked([synset.states for synset in synsets], policies)
    actions = _stacked([synset.actions for synset in synsets], policies)
    if settings.noise == "none":
        return clone(how, params, states, actions)
    noisy = [seeded_generator(seed, NOISE, step, number) for seed, step, number in keys]

    def noise_at(_: int) -> Tensor:
        return torch.stack([torch.randn(actions.shape[1:], generator=g) for g in noisy])

    return clone(how, params, states, actions, noise_at)


def outer_step(synset: Synset) -> int:
    """The outer step a synset is of, which its students are drawn for; 0 if its card names none."""
    return read_card_integer(synset, "step", "It is a whole number from 0.")


def read_card_integer(synset: Synset, name: str, advice: str) -> int:
    """A whole number from 0 on a synset's card, 0 if it has none of that name."""
    number = synset.card.get(name, 0)
    if type(number) is not int or number < 0:
        raise InvalidDataError(f"The synset's card holds the {name} {number!r}.", advice)
    return number


def _stacked(arrays: Sequence[Array], policies: int) -> Tensor:
    stacked = torch.from_numpy(np.stack([np.asarray(array, np.float32) for array in arrays]))
    return stacked.repeat_interleave(policies, 0)


@dataclass
class BatchedActor:
    """Acts for a stack of policies, ``episodes`` slots each; finished policies are dropped."""

    architecture: Architecture
    params: Params
    standardizers: Sequence[Standardizer]
    episodes: int

    def __post_init__(self) -> None:
        self.rows = np.arange(self._policies)
        self.kept = self.params

    @property
    def _policies(self) -> int:
        return len(next(iter(self.params.values())))

    @torch.no_grad()
    def __call__(self, observations: Array, slots: Array) -> Array:
        """Deterministic actions for the running slots, by one call of all their policies."""
        owner = slots // self.episodes
        alive = np.unique(owner)
        if not np.isin(alive, self.rows).all():  # episodes begin anew
            self.rows, self.kept = np.arange(self._policies), self.params
        if len(alive) <= len(self.rows) // 2:
            self.rows = alive
            self.kept = {name: value[alive] for name, value in self.params.items()}
        position = np.searchsorted(self.rows, owner)
        counts = np.bincount(position, minlength=len(self.rows))
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        place = np.arange(len(slots)) - first[position]
        padded = np.zeros((len(self.rows), counts.max(), observations.shape[1]), np.float32)
        padded[position, place] = self._states(observations, owner)
        actions = self.architecture.act(self.kept, torch.from_numpy(padded)).numpy()
        return np.asarray(actions[position, place])

    def _states(self, observations: Array, owner: Array) -> Array:
        if len(self.standardizers) == 1:
            return self.standardizers[0].apply(observations)
        mean = np.stack([s.mean for s in self.standardizers])[owner]
        scale = np.stack([s.scale for s in self.standardizers])[owner]
        return np.asarray((observations - mean) / scale, np.float32)


def episode_seeds(seed: int, step: int, policies: int, episodes: int) -> list[int]:
    """Reset seeds of a seed's episodes, policy-major."""
    state = np.random.SeedSequence([seed, EPISODES, step]).generate_state(policies * episodes)
    return [int(value) & 0x7FFFFFFF for value in state]


def score_students(
    how: CloningConfig,
    params: Params,
    synsets: Sequence[Synset],
    seeds: Sequence[int],
    policies: int,
    episodes: int,
) -> Array:
    """Raw returns, (seed, policy, episode), of independent students."""
    task: Task = synsets[0].task
    standardizers = [synset.standardizer for synset in synsets for _ in range(policies)]
    if all(s is standardizers[0] for s in standardizers):
        standardizers = standardizers[:1]
    actor = BatchedActor(how.architecture, params, standardizers, episodes)
    resets = [
        reset
        for seed, synset in zip(seeds, synsets, strict=True)
        for reset in episode_seeds(seed, outer_step(synset), policies, episodes)
    ]
    returns = run_episodes(actor, task, resets).returns
    return np.asarray(returns).reshape(len(synsets), policies, episodes)


def score_ensemble(
    how: CloningConfig,
    params: Params,
    synsets: Sequence[Synset],
    seeds: Sequence[int],
    members: int,
    episodes: int,
) -> Array:
    """Raw returns, (seed, 1, episode), of students that act together by their mean action."""
    returns = []
    for index, (seed, synset) in enumerate(zip(seeds, synsets, strict=True)):
        group = slice(index * members, (index + 1) * members)
        own = {name: value[group] for name, value in params.items()}

        @torch.no_grad()
        def act(observations: Array, _: Array, own: Params = own, synset: Synset = synset) -> Array:
            states = torch.from_numpy(synset.standardizer.apply(observations))
            return np.asarray(how.architecture.act(own, states).mean(0).numpy())

        resets = episode_seeds(seed, outer_step(synset), 1, episodes)
        returns.append(run_episodes(act, synset.task, resets).returns)
    return np.stack(returns)[:, None, :]
