"""The behavior policy: the returns of the episodes in the data.

The row ``behavior`` is the mean normalized return of a dataset's complete episodes. Nothing is
trained or simulated.

    python -m baselines.behavior --dataset embedded/hopper-medium-v1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from baselines.rows import RESULTS_FOLDER, format_result, write_row
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError, run_script
from obdbench.results.record import Result


def behavior(dataset: Dataset, out: Path) -> Result:
    """Write the record of a dataset's own episodes."""
    returns = dataset.episode_returns()
    if not len(returns):
        raise InvalidDataError(
            f"Dataset {dataset.id!r} contains no complete episode.",
            "Check that its terminals and timeouts mark the ends of episodes.",
        )
    return write_row(dataset, "behavior", {0: returns[None]}, out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", nargs="+", action="extend", required=True)
    parser.add_argument(
        "--out", type=Path, default=RESULTS_FOLDER, help="folder of the suite's results"
    )
    options = parser.parse_args(arguments)
    for dataset_id in options.dataset:
        print(format_result(behavior(load_dataset(dataset_id), options.out)))


if __name__ == "__main__":
    sys.exit(run_script(main))
