"""The behavior policy: the returns of the episodes in the data.

The row ``behavior`` is the mean normalized return of a dataset's complete episodes. If the task
never terminates and the data contain truncated episodes, as the stand-ins of half-cheetah do, the
complete episodes are not representative; the row is then the mean reward per step times the number
of steps of an episode. Nothing is trained or simulated.

    python -m baselines.behavior --dataset embedded/hopper-medium-v0
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from baselines.rows import RESULTS_FOLDER, format_result, write_row
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError, run_script
from obdbench.results.record import Result
from obdbench.tasks.simulator import TASK_RULES


def behavior(dataset: Dataset, out: Path) -> Result:
    """Write the record of a dataset's own episodes."""
    returns = [float(value) for value in dataset.episode_returns()]
    if not returns:
        raise InvalidDataError(
            f"Dataset {dataset.id!r} contains no complete episode.",
            "Check that its terminals and timeouts mark the ends of episodes.",
        )
    rules = TASK_RULES.get(dataset.task.env_id)
    if rules is not None and rules.never_terminates and dataset.interrupted_episodes():
        reward_per_step = float(np.mean(dataset.rewards, dtype=np.float64))
        returns = [reward_per_step * dataset.task.episode_limit]
    return write_row(dataset, "behavior", {0: [returns]}, out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", nargs="+", required=True)
    parser.add_argument(
        "--out", type=Path, default=RESULTS_FOLDER, help="folder of the suite's results"
    )
    options = parser.parse_args(arguments)
    for dataset_id in options.dataset:
        print(format_result(behavior(load_dataset(dataset_id), options.out)))


if __name__ == "__main__":
    sys.exit(run_script(main))
