r"""The density model of SDW beside a Gaussian, on held-out states of the embedded datasets.

``run`` fits the masked autoregressive flow of :mod:`obdbench.objectives.density` and a Gaussian
with a full covariance matrix to nine tenths of the episodes of a dataset, and writes the mean
log-likelihood of the standardized states of the other tenth to
``docs/studies/results/density/``, one JSON file per dataset. ``table`` writes the block
``density`` of ``docs/methods.md``::

    python docs/studies/density.py run
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from dataset_study import DOCS, DatasetStudy, markdown_table
from scipy.stats import multivariate_normal

import obdbench
from obdbench.datasets.dataset import episode_numbers
from obdbench.errors import run_script
from obdbench.objectives.density import evaluate_log_density, fit_flow

HELD_OUT_EVERY = 10  # every tenth episode is held out


def measure(name: str) -> dict[str, Any]:
    """Fit both models and evaluate them on the held-out episodes."""
    dataset = obdbench.load_dataset(f"embedded/{name}")
    held_out = episode_numbers(dataset) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    states = dataset.states
    fitted, test = states[~held_out], states[held_out]
    started = time.process_time()
    flow = fit_flow(fitted)
    seconds = time.process_time() - started
    gaussian = multivariate_normal(
        fitted.mean(0), np.cov(fitted, rowvar=False), allow_singular=True
    )
    return {
        "dataset": name,
        "states": len(fitted),
        "held_out_states": len(test),
        "flow": float(evaluate_log_density(flow, test).mean()),
        "gaussian": float(gaussian.logpdf(test).mean()),
        "fit_cpu_seconds": seconds,
    }


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per dataset."""
    lines = []
    for row in rows:
        figures = (row["flow"], row["gaussian"], row["flow"] - row["gaussian"])
        lines.append([row["dataset"], *(f"{figure:.2f}".replace("-", "−") for figure in figures)])
    return markdown_table(["dataset", "flow", "Gaussian", "difference"], lines)


STUDY = DatasetStudy("density", DOCS / "methods.md", measure, format_table)


if __name__ == "__main__":
    sys.exit(run_script(STUDY.main))
