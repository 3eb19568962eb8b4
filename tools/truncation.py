"""Measure the cost and the error of other meta-gradients than the full one, in two minutes.

The gradients of truncated solvers and of the reverse sweep with bfloat16 factors are compared with
the full gradient on the embedded hopper-medium-replay data with the objective av-pbc, for freshly
drawn policies: at the initial synset and after some outer steps with the full gradient. Cost is the
CPU time of one thread; the solvers alternate.
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
from obdbench.distillation.loop import distill_points
from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.meta_gradient.outer_gradient import OuterLossOnStates
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.solvers.exact import Exact, RandomTruncated, Truncated
from obdbench.objectives.objective import make_objective
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import MLP4, seeded_generator
from obdbench.policies.optimizers import get_optimizer
from obdbench.teachers.loading import load_teacher

DATASET, OBJECTIVE = "embedded/hopper-medium-replay-v1", "av-pbc"
POLICIES, OUTER_STEPS = 8, 60
FULL, OTHER_POLICY = ("full", None), ("full, another policy", None)
ROUNDED = ("full, bfloat16 factors", None)
SOLVERS = [
    FULL,
    ROUNDED,
    *(("truncated", window) for window in (50, 25, 10)),
    *(("random-truncated", window) for window in (50, 25, 10)),
]
SOLVER_CLASSES: dict[str, type[Exact]] = {
    ROUNDED[0]: Exact,
    **{solver.name: solver for solver in (Exact, Truncated, RandomTruncated)},
}


def measure() -> dict[str, Any]:
    """Measure every solver at the initial synset and after the outer steps."""
    torch.set_num_threads(1)
    dataset, teacher = load_dataset(DATASET), load_teacher(DATASET)
    objective = make_objective(OBJECTIVE)
    exact = {"kernel_share": 0.0, "smoothing": 0.0, "schedule": "constant", "guard_interval": 0}
    settings = resolve_settings("fast", {**exact, "steps": OUTER_STEPS, "evaluate_at": (0.0, 1.0)})
    cloning = CloningConfig(MLP4, get_optimizer("sgd"), settings.inner_lr, settings.inner_steps)
    points = distill_points(dataset, teacher, objective, settings, [0])
    sampler = BatchSampler.from_dataset(
        dataset, objective.prepare(dataset, teacher, np.random.default_rng(0)), "cpu"
    )
    solvers = {
        key: UnrolledMetaGradient(cloning, precision="bfloat16" if key == ROUNDED else "float32")
        for key in SOLVERS
    }
    rows: list[dict[str, Any]] = []
    for point in points:
        x = torch.from_numpy(point.synsets[0].states)[None]
        a = torch.from_numpy(point.synsets[0].actions)[None]
        seconds: dict[Any, list[float]] = {key: [] for key in SOLVERS}
        comparisons: dict[Any, list[tuple[float, float]]] = {
            key: [] for key in (*SOLVERS, OTHER_POLICY)
        }
        full_gradients: list[MetaGradient] = []
        for policy in range(POLICIES):
            generators = [seeded_generator(policy, 20)]
            batch = sampler.draw(settings.batch, generators)
            params = MLP4.init(generators, dataset.observation_size, dataset.action_size)
            loss = partial(objective.loss, batch=batch)
            outer_loss = OuterLossOnStates(MLP4.act, batch.states, loss)
            for key in SOLVERS:
                truncated = settings.model_copy(update={"window": key[1]})
                started = time.process_time()
                steps = SOLVER_CLASSES[key[0]](truncated).truncation(policy)
                gradient = solvers[key](params, x, a, outer_loss, **steps)
                seconds[key].append(time.process_time() - started)
                if key == FULL:
                    full_gradients.append(gradient)
                comparisons[key].append(compare(gradient, full_gradients[-1]))
        comparisons[OTHER_POLICY] = [compare(one, two) for one, two in pairwise(full_gradients)]
        seconds[OTHER_POLICY] = seconds[FULL]
        for key in (*SOLVERS, OTHER_POLICY):
            cosines, norms = zip(*comparisons[key], strict=True)
            rows.append(
                {
                    "step": point.step,
                    "solver": key[0],
                    "window": key[1],
                    "seconds": statistics.median(seconds[key][1:]),
                    "cosine": [statistics.median(cosines), min(cosines), max(cosines)],
                    "norm": [statistics.median(norms), min(norms), max(norms)],
                }
            )
    return {"inner_steps": settings.inner_steps, "policies": POLICIES, "rows": rows}


def compare(gradient: MetaGradient, full: MetaGradient) -> tuple[float, float]:
    """Return the cosine similarity with the full gradient and the ratio of the norms."""
    first, second = (torch.cat([g.states.flatten(), g.actions.flatten()]) for g in (gradient, full))
    return float(torch.cosine_similarity(first, second, dim=0)), float(first.norm() / second.norm())


def format_table(report: dict[str, Any]) -> str:
    """Return a Markdown table of medians over the policies with minimum and maximum."""
    last = max(row["step"] for row in report["rows"])
    full_seconds = {
        row["step"]: row["seconds"] for row in report["rows"] if row["solver"] == "full"
    }
    lines = [
        f"| solver | window | cost | cosine, start | norm, start | cosine, step {last} "
        f"| norm, step {last} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows = {(row["solver"], row["window"], row["step"]): row for row in report["rows"]}
    for solver, window in (*SOLVERS, OTHER_POLICY):
        first, later = rows[solver, window, 0], rows[solver, window, last]
        cost = (first["seconds"] + later["seconds"]) / (full_seconds[0] + full_seconds[last])
        cells = [format_range(row[key]) for row in (first, later) for key in ("cosine", "norm")]
        name = "" if window is None else str(window)
        lines.append(f"| {solver} | {name} | {cost:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def format_range(values: list[float]) -> str:
    """Format a median with minimum and maximum, or the median alone if they are equal."""
    median, low, high = values
    return f"{median:.2f} ({low:.2f} to {high:.2f})" if high - low > 1e-6 else f"{median:.2f}"


if __name__ == "__main__":
    report = measure()
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".benchmarks/truncation.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=1) + "\n")
    print(format_table(report))
