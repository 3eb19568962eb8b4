"""IQL as implemented here beside CORL's, on medium datasets.

``run`` trains IQL with its default settings and steps on the shipped transitions and writes the
card of the last policy, with its return over 100 deterministic episodes, to
``docs/studies/results/iql/``, one JSON file per dataset. ``table`` writes the table between the
markers ``iql`` of ``docs/data.md``. An interrupted training continues::

    python docs/studies/iql.py run
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import obdbench
from obdbench.errors import run_script
from obdbench.offline_rl.api import with_measured_return
from obdbench.offline_rl.trainer import train_teachers

sys.path.insert(0, str(Path(__file__).parent))

from dataset_study import DOCS, DatasetStudy, markdown_table

PAGE = DOCS / "data.md"
EPISODES = 100
CORL_IQL = {  # CORL's README (Tarasov et al., 2023), last scores on D4RL's v2 data
    "halfcheetah-medium-v1": 48.31,
    "hopper-medium-v1": 67.53,
    "walker2d-medium-v1": 80.91,
}


def measure(name: str) -> dict[str, Any]:
    """Train IQL; the card of its last policy."""
    dataset = obdbench.load_dataset(f"embedded/{name}")
    state = DOCS.parent / "build" / f"iql-{name}.training.pt"
    state.parent.mkdir(exist_ok=True)
    (teacher,) = train_teachers([dataset], "iql", state_path=state)
    return {"dataset": name, **with_measured_return(teacher, dataset.task, EPISODES).card}


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per dataset."""
    lines = []
    for row in rows:
        measured = row["measured"]
        score = f"{measured['normalized_return']:.1f} ± {measured['standard_deviation']:.1f}"
        lines.append([f"`{row['dataset']}`", score, f"{CORL_IQL[row['dataset']]:.1f}"])
    return markdown_table(["dataset", "IQL", "CORL"], lines)


STUDY = DatasetStudy("iql", measure, format_table, tuple(CORL_IQL))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return STUDY.run_command_line(PAGE, arguments)


if __name__ == "__main__":
    sys.exit(run_script(main))
