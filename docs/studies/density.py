r"""The density model of SDW beside a Gaussian, on held-out states of the embedded datasets.

``run`` fits the masked autoregressive flow of :mod:`obdbench.objectives.density` and a Gaussian
with a full covariance matrix to nine tenths of the episodes of a dataset, and writes the mean
log-likelihood of the standardized states of the other tenth to
``docs/studies/results/density/``, one JSON file per dataset. ``table`` writes the table between the
markers ``density`` of ``docs/methods.md``::

    python docs/studies/density.py run
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import multivariate_normal

import obdbench
from obdbench.datasets.embedded import NAMES
from obdbench.errors import run_script
from obdbench.io import write_atomically
from obdbench.objectives.density import evaluate_log_density, fit_flow

sys.path.insert(0, str(Path(__file__).parent))

from page_table import markdown_table, write_page_table

DOCS = Path(__file__).parent.parent
RESULTS, PAGE = DOCS / "studies" / "results" / "density", DOCS / "methods.md"
HELD_OUT_EVERY = 10  # every tenth episode is held out


def measure(name: str) -> dict[str, Any]:
    """Fit both models and evaluate them on the held-out episodes."""
    dataset = obdbench.load_dataset(f"embedded/{name}")
    ends = dataset.terminals.astype(bool)
    if dataset.timeouts is not None:
        ends |= dataset.timeouts.astype(bool)
    episode = np.cumsum(ends) - ends  # number of episodes that ended before
    held_out = episode % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
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


def write_table() -> None:
    """Update the table of the page."""
    paths = [RESULTS / f"{name}.json" for name in NAMES]
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    write_page_table(PAGE, "density", format_table(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("run", "table"))
    if parser.parse_args(arguments).command == "run":
        torch.set_num_threads(1)
        for name in NAMES:
            path = RESULTS / f"{name}.json"
            if not path.exists():
                print(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps(measure(name)) + "\n")
    write_table()
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
