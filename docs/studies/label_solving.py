"""Label solving beside infinite-width steps in equal time, on the embedded datasets.

Both solvers start from the same pairs, take as many outer steps as fit into the processor time of
one thread, and have the cosine schedule over these steps. The objective, PBC, of students of
infinite width is measured on the same 4,096 states, which are drawn apart from those of the outer
steps. ``run`` writes one JSON file per dataset to ``docs/studies/results/label-solving/``.
``table`` writes the block ``label-solving`` of ``docs/methods.md``::

    python docs/studies/label_solving.py run
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from dataset_study import DOCS, DatasetStudy, markdown_table

import obdbench
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.infinite_width.student import InfiniteWidthStudent
from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.state_sources.state_source import load_fixed_dataset, make_state_source
from obdbench.errors import run_script
from obdbench.objectives.objective import make_objective
from obdbench.policies.networks import MLP4

SOLVERS = ("infinite-width", "label-solving")
SECONDS = (3.0, 10.0)
PROBE_STEPS, STATES, SEED = 20, 4096, 30


class Comparison:
    """Distillations of one dataset by both solvers."""

    def __init__(self, name: str) -> None:
        dataset_id = f"embedded/{name}"
        self.dataset, self.objective = obdbench.load_dataset(dataset_id), make_objective("pbc")
        self.teacher = obdbench.load_teacher(dataset_id)
        settings = self.settings(SOLVERS[0], 1)
        source = make_state_source(self.dataset, self.teacher, settings)
        states = load_fixed_dataset(source)
        columns = self.objective.prepare(states, self.teacher, np.random.default_rng(0))
        sampler = BatchSampler.from_dataset(states, columns, "cpu")
        self.batch = sampler.draw(STATES, [torch.Generator().manual_seed(12345)])
        self.student = InfiniteWidthStudent(MLP4.depth, settings.inner_lr, settings.inner_steps)

    def settings(self, solver: str, steps: int) -> DistillSettings:
        """The settings of ``fast`` with other steps, the rate 0.03 and initial output zero."""
        changes = {"steps": steps, "evaluate_at": (0.0, 0.5, 1.0), "guard_interval": 0}
        changes |= {"outer_lr": 0.03, "kernel_lr": 0.03, "kernel_start": "zero"}
        return resolve_settings("fast", {**changes, "solver": solver})

    def run(self, solver: str, steps: int) -> Iterator[tuple[float, float]]:
        """Yield processor seconds since step 0 and objective, at half of the steps and at all."""
        seconds, started = 0.0, time.process_time()
        for point in distill_points(
            self.dataset, self.teacher, self.objective, self.settings(solver, steps), [SEED]
        ):
            if point.step:
                seconds += time.process_time() - started
                (synset,) = point.synsets
                x, a = torch.from_numpy(synset.states)[None], torch.from_numpy(synset.actions)[None]
                actions = self.student.act(x, a, self.batch.states)
                yield seconds, float(self.objective.loss(actions, self.batch))
            started = time.process_time()

    def run_for(self, solver: str, seconds: float) -> dict[str, float]:
        """Take the steps that fit into the time, as estimated from a short run."""
        (half, _), (whole, _) = self.run(solver, PROBE_STEPS)
        per_step = (whole - half) / (PROBE_STEPS / 2)  # without the costly first step
        steps = PROBE_STEPS // 2 + round((seconds - half) / per_step)
        *_, (taken, objective) = self.run(solver, steps)
        return {"steps": steps, "seconds": taken, "objective": objective}


def measure(name: str) -> dict[str, Any]:
    """Run both solvers for all times."""
    comparison = Comparison(name)
    return {
        "dataset": name,
        "runs": [
            {"seconds": seconds, **{s: comparison.run_for(s, seconds) for s in SOLVERS}}
            for seconds in SECONDS
        ],
    }


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per dataset: the objective of both solvers at every time; the lower one is bold."""
    header = ["dataset", *(f"{solver}, {s:g} s" for s in SECONDS for solver in SOLVERS)]
    lines = []
    for row in rows:
        line = [row["dataset"]]
        for run in row["runs"]:
            objectives = [run[solver]["objective"] for solver in SOLVERS]
            texts = [f"{objective:.4f}" for objective in objectives]
            best = int(np.argmin(objectives))
            texts[best] = f"**{texts[best]}**"
            line += texts
        lines.append(line)
    return markdown_table(header, lines)


STUDY = DatasetStudy("label-solving", DOCS / "methods.md", measure, format_table)


if __name__ == "__main__":
    sys.exit(run_script(STUDY.main))
