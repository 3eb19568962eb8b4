"""Rounds of states that a state source adds during a distillation, with the objective's columns.

Every round is labeled by the teacher. The objective's ``prepare`` makes the columns of the kept
rounds of a seed together, so that weights of mean one have mean one over them. The state density
at added states is that of the flow fitted to the fixed dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from obdbench.datasets.dataset import Dataset, DerivedDataset
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.random_streams import ADDED_COLUMNS_STREAM
from obdbench.distillation.snapshot import DistillationState
from obdbench.distillation.state_sources.state_source import StateSource
from obdbench.errors import InvalidDataError
from obdbench.teachers.teacher import Teacher

MakeSampler = Callable[[Dataset, np.random.Generator], BatchSampler]


class AddedStates:
    """Keeps the added states of all seeds up to date and gives their columns to the sampler."""

    def __init__(
        self,
        source: StateSource,
        reference: Dataset,
        teacher: Teacher,
        state: DistillationState,
        seeds: Sequence[int],
        sampler: BatchSampler,
        make_sampler: MakeSampler,
    ) -> None:
        """``reference`` is the fixed dataset, ``make_sampler`` prepares a dataset's columns."""
        self.source, self.reference, self.teacher = source, reference, teacher
        self.state, self.seeds = state, seeds
        self.sampler, self.make_sampler = sampler, make_sampler
        sampler.added_share = source.added_share
        sampler.added = [None] * len(seeds)
        for index, rounds in enumerate(state.added_states):
            if rounds:
                self._prepare_columns(index)

    def update(self) -> None:
        """Add a round of states for every active seed if the source says that one is due."""
        step = self.state.step
        if not self.source.is_due(step):
            return
        for index in self.state.active_seeds:
            rounds = self.state.added_states[index]
            if step not in rounds:
                x, a = self.state.states[index], self.state.actions[index]
                added = self.source.new_states(x, a, self.seeds[index], step)
                rounds[step] = self._check(added).cpu().float()
                for oldest in sorted(rounds)[: -self.source.kept_rounds]:
                    del rounds[oldest]
                self._prepare_columns(index)

    def _check(self, states: torch.Tensor) -> torch.Tensor:
        size = self.reference.observation_size
        if states.ndim != 2 or states.shape[1] != size or not len(states):
            raise InvalidDataError(
                f"The state source {self.source.name!r} returned states of shape "
                f"{tuple(states.shape)}.",
                f"Return one or more rows of {size} numbers from new_states().",
            )
        return states

    def _prepare_columns(self, index: int) -> None:
        rounds = self.state.added_states[index]
        states = torch.cat([rounds[step] for step in sorted(rounds)])
        observations = self.reference.standardizer.invert(states.numpy())
        actions = np.clip(self.teacher.act(observations), -1.0, 1.0)
        dataset = DerivedDataset(
            id=self.reference.id,
            task=self.reference.task,
            observations=observations,
            actions=np.asarray(actions, np.float32),
            rewards=np.zeros(len(states), np.float32),
            terminals=np.zeros(len(states), bool),
            reference=self.reference,
        )
        rng = np.random.default_rng([self.seeds[index], ADDED_COLUMNS_STREAM, max(rounds)])
        self.sampler.added[index] = self.make_sampler(dataset, rng).columns
