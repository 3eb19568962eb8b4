"""What truncating the meta-gradient costs and changes; takes two minutes of a core.

The gradient of each solver is held against the full one on the embedded hopper-medium-replay data
with the objective av-pbc, for fresh policies: at the start, and after some outer steps taken with
the full gradient. Cost is CPU time of one thread, solvers taking turns.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from obdbench.datasets.loading import load_dataset
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.loop import _truncation, distill_points
from obdbench.distillation.meta_gradient.outer_gradient import OuterLossOnStates
from obdbench.distillation.meta_gradient.solver import MetaGradient, MetaGradientSolver
from obdbench.distillation.settings import resolve_settings
from obdbench.objectives.objective import make_objective
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import MLP4, seeded_generator
from obdbench.policies.optimizers import get_optimizer
from obdbench.teachers.loading import load_teacher

DATASET, OBJECTIVE = "embedded/hopper-medium-replay-v0", "av-pbc"
POLICIES, OUTER_STEPS = 8, 60
FULL, OTHER = ("full", None), ("full, another policy", None)
SOLVERS = [
    FULL,
    *(("truncated", window) for window in (50, 25, 10)),
    *(("random-truncated", window) for window in (50, 25, 10)),
]


def measure() -> dict[str, Any]:
    torch.set_num_threads(1)
    dataset, teacher = load_dataset(DATASET), load_teacher(DATASET)
    objective = make_objective(OBJECTIVE)
    exact = {"kernel_share": 0.0, "smoothing": 0.0, "schedule": "constant"}
    settings = resolve_settings("fast", {**exact, "steps": OUTER_STEPS, "evaluate_at": (0.0, 1.0)})
    how = CloningConfig(MLP4, get_optimizer("sgd"), settings.inner_lr, settings.inner_steps)
    points = distill_points(dataset, teacher, objective, settings, [0])
    feed = BatchSampler.from_dataset(
        dataset, objective.prepare(dataset, teacher, np.random.default_rng(0)), "cpu"
    )
    solvers = {key: MetaGradientSolver(how) for key in SOLVERS}
    found: dict[str, Any] = {"inner_steps": settings.inner_steps, "policies": POLICIES, "rows": []}
    for point in points:
        x = torch.from_numpy(point.synsets[0].states)[None]
        a = torch.from_numpy(point.synsets[0].actions)[None]
        seconds: dict[Any, list[float]] = {key: [] for key in SOLVERS}
        change: dict[Any, list[tuple[float, float]]] = {key: [] for key in (*SOLVERS, OTHER)}
        fulls: list[MetaGradient] = []
        for policy in range(POLICIES):
            generators = [seeded_generator(policy, 20)]
            batch = feed.draw(settings.batch, generators)
            params = MLP4.init(generators, dataset.observation_size, dataset.action_size)
            outer = OuterLossOnStates(MLP4.act, batch.states, partial(objective.loss, batch=batch))
            for key in SOLVERS:
                cut = settings.model_copy(update={"solver": key[0], "window": key[1]})
                started = time.process_time()
                gradient = solvers[key](params, x, a, outer, **_truncation(cut, policy))
                seconds[key].append(time.process_time() - started)
                if key == FULL:
                    fulls.append(gradient)
                change[key].append(against(gradient, fulls[-1]))
        change[OTHER] = [against(one, other) for one, other in pairwise(fulls)]
        seconds[OTHER] = seconds[FULL]
        for key in (*SOLVERS, OTHER):
            cosines, norms = zip(*change[key], strict=True)
            found["rows"].append(
                {
                    "step": point.step,
                    "solver": key[0],
                    "window": key[1],
                    "seconds": statistics.median(seconds[key][1:]),
                    "cosine": [statistics.median(cosines), min(cosines), max(cosines)],
                    "norm": [statistics.median(norms), min(norms), max(norms)],
                }
            )
    return found


def against(found: MetaGradient, full: MetaGradient) -> tuple[float, float]:
    """Cosine similarity with the full gradient, and the ratio of norms."""
    one, other = (torch.cat([g.states.flatten(), g.actions.flatten()]) for g in (found, full))
    return float(torch.cosine_similarity(one, other, dim=0)), float(one.norm() / other.norm())


def table(found: dict[str, Any]) -> str:
    """Markdown: medians over the policies, with the smallest and the largest."""
    last = max(row["step"] for row in found["rows"])
    cost = {row["step"]: row["seconds"] for row in found["rows"] if row["solver"] == "full"}
    lines = [
        f"| solver | window | cost | cosine, start | norm, start | cosine, step {last} "
        f"| norm, step {last} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows = {(row["solver"], row["window"], row["step"]): row for row in found["rows"]}
    for solver, window in (*SOLVERS, OTHER):
        first, later = rows[solver, window, 0], rows[solver, window, last]
        ratio = (first["seconds"] + later["seconds"]) / (cost[0] + cost[last])
        cells = [shown(row[key]) for row in (first, later) for key in ("cosine", "norm")]
        name = "" if window is None else str(window)
        lines.append(f"| {solver} | {name} | {ratio:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(values: list[float]) -> str:
    middle, low, high = values
    return f"{middle:.2f} ({low:.2f} to {high:.2f})" if high - low > 1e-6 else f"{middle:.2f}"


if __name__ == "__main__":
    report = measure()
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".benchmarks/truncation.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
