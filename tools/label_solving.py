"""Compare label solving with infinite-width steps in equal time.

    python tools/label_solving.py [DATASET [SECONDS [OBJECTIVE]]]

Both solvers start from the same pairs, take as many outer steps as fit into the processor time of
one thread, and have the cosine schedule over these steps. The objective of students of infinite
width is measured on the same 4,096 states, which are drawn apart from those of the outer steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
import torch

from obdbench.datasets.loading import load_dataset
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.infinite_width.solver import InfiniteWidthSolver
from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.state_sources.state_source import (
    load_fixed_dataset,
    make_state_source,
)
from obdbench.objectives.objective import make_objective
from obdbench.policies.networks import MLP4
from obdbench.teachers.loading import load_teacher

SOLVERS = ("infinite-width", "label-solving")
PROBE_STEPS, STATES, EVALUATIONS = 20, 4096, (0.0, 0.25, 0.5, 0.75, 1.0)


class Comparison:
    """Distillations of one dataset and objective by different solvers."""

    def __init__(self, dataset_id: str, objective: str) -> None:
        self.dataset, self.objective = load_dataset(dataset_id), make_objective(objective)
        self.teacher = load_teacher(dataset_id) if self.objective.uses_teacher else None
        settings = self.settings(SOLVERS[0], 1)
        source = make_state_source(self.dataset, self.teacher, self.objective, settings)
        states = load_fixed_dataset(source)
        columns = self.objective.prepare(states, self.teacher, np.random.default_rng(0))
        sampler = BatchSampler.from_dataset(states, columns, "cpu")
        self.batch = sampler.draw(STATES, [torch.Generator().manual_seed(12345)])
        self.limit = InfiniteWidthSolver(MLP4.depth, settings.inner_lr, settings.inner_steps)

    def settings(self, solver: str, steps: int) -> DistillSettings:
        """The settings of fast with other steps and the learning rate 0.03 for both solvers."""
        changes = {"steps": steps, "evaluate_at": EVALUATIONS, "guard_interval": 0}
        changes |= {"outer_lr": 0.03, "kernel_lr": 0.03}
        return resolve_settings("fast", {**changes, "solver": solver})

    def run(self, solver: str, steps: int) -> Iterator[tuple[int, float, float]]:
        """Yield step, seconds and objective of every evaluation point."""
        seconds, started = 0.0, time.process_time()
        for point in distill_points(
            self.dataset, self.teacher, self.objective, self.settings(solver, steps), [0]
        ):
            if point.step:  # the time before the first step is that of loading
                seconds += time.process_time() - started
            (synset,) = point.synsets
            x, a = torch.from_numpy(synset.states)[None], torch.from_numpy(synset.actions)[None]
            actions = self.limit.act(x, a, self.batch.states)
            yield point.step, seconds, float(self.objective.loss(actions, self.batch))
            started = time.process_time()


def main(dataset_id: str, seconds: float, objective: str) -> None:
    """Print one line per solver and evaluation point."""
    torch.set_num_threads(1)
    comparison = Comparison(dataset_id, objective)
    print(f"{dataset_id}, {objective}: step, seconds, objective at infinite width")
    for solver in SOLVERS:
        *_, (_, half, _), _, (_, whole, _) = comparison.run(solver, PROBE_STEPS)
        per_step = (whole - half) / (PROBE_STEPS / 2)  # without those of the start
        steps = PROBE_STEPS // 2 + round((seconds - half) / per_step)
        for step, taken, loss in comparison.run(solver, steps):
            print(f"{solver:<16}{step:>6}{taken:>8.1f}{loss:>12.5f}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    defaults = ("embedded/hopper-medium-v1", "10", "pbc")
    name, duration, objective_name = (*given, *defaults[len(given) :])
    main(name, float(duration), objective_name)
