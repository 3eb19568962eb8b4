"""Fill in the tables of the embedded datasets and teachers in ``docs/data.md``.

The tables are the blocks ``data`` and ``teachers``, from the cards, and ``offline-rl``, from the
results of ``baselines.offline_rl`` in ``docs/studies/results/offline-rl``. After a dataset was
built or a teacher trained, run::

    python tools/data_table.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from obdbench.datasets.embedded import FILES, NAMES
from obdbench.datasets.references import get_reference
from obdbench.reporting.blocks import write_blocks
from obdbench.reporting.tables.paper_tables import load_paper_tables
from obdbench.tasks.task import get_task, normalized_return

PAGE = Path(__file__).parents[1] / "docs" / "data.md"
TOLERANCE = {"medium-expert": 10.0}  # points; 6 for the other levels
COLUMNS = (
    "| dataset | episodes | mean return | D4RL's return | difference (accepted) "
    "| transitions, full collection | transitions, D4RL |"
)
TEACHER_COLUMNS = (
    "| dataset | teacher | data | CORL | paper | missed variance | correlation of values |"
)
CORL_TD3_BC = {  # CORL's README (Tarasov et al., 2023), last scores on D4RL's v2 data
    "hopper-medium-replay": 64.42,
    "hopper-medium": 60.37,
    "hopper-medium-expert": 101.17,
    "walker2d-medium-replay": 85.62,
    "walker2d-medium": 82.71,
    "walker2d-medium-expert": 110.03,
    "halfcheetah-medium-replay": 44.84,
    "halfcheetah-medium": 48.10,
    "halfcheetah-medium-expert": 90.78,
}
CORL_OTHERS = {  # as above; CORL has no Cal-QL on these data, so that of CQL is beside it
    "iql-whole": {
        "hopper-medium": 67.53,
        "walker2d-medium": 80.89,
        "halfcheetah-medium": 48.31,
    },
    "cal-ql-whole": {"halfcheetah-medium-replay": 45.04},
}
OFFLINE_RL_RESULTS = PAGE.parent / "studies" / "results" / "offline-rl"


def data_table(folder: Path = FILES) -> str:
    """One row per dataset: mean normalized returns beside D4RL's."""
    rows = [COLUMNS, "| :-- | --: | --: | --: | --: | --: | --: |"]
    for name in NAMES:
        path = folder / f"{name}.json"
        card = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        rows.append(_row(name, card))
    return "\n".join(rows)


def teacher_table(folder: Path = FILES) -> str:
    """One row per teacher: normalized returns, and statistics of held-out data."""
    rows = [TEACHER_COLUMNS, "| :-- | --: | --: | --: | --: | --: | --: |"]
    table = load_paper_tables()[0]
    published = dict(zip(table.datasets, table.rows["offrl-whole"], strict=True))
    returns: list[tuple[float, float, float, float]] = []
    for name in NAMES:
        path = folder / f"{name}-teacher.json"
        if not path.is_file():
            rows.append(f"| `{name}` | not trained | – | – | – | – | – |")
            continue
        card = json.loads(path.read_text(encoding="utf-8"))
        measured, held_out = card["measured"], card["held_out"]
        corl = CORL_TD3_BC[name.removesuffix("-v1")]
        paper = published[name.removesuffix("-v1")]
        behavior = float(card["behavior_normalized_return"])
        returns.append((float(measured["normalized_return"]), behavior, corl, paper))
        rows.append(
            f"| `{name}` | {measured['normalized_return']:.1f} ± "
            f"{measured['standard_deviation']:.1f} | {behavior:.1f} | {corl:.1f} | {paper:.1f} | "
            f"{held_out['action_variance_share']:.2f} | "
            f"{held_out['value_return_correlation']:.2f} |"
        )
    if len(returns) == len(NAMES):
        means = [f"{sum(column) / len(column):.1f}" for column in zip(*returns, strict=True)]
        rows.append(f"| average | {' | '.join(means)} | | |")
    return "\n".join(rows)


def offline_rl_table(folder: Path = OFFLINE_RL_RESULTS) -> str:
    """One row per teacher of IQL and Cal-QL: the last return beside published ones."""
    rows = [
        "| algorithm | dataset | steps | return | CORL | paper |",
        "| :-- | :-- | --: | --: | --: | --: |",
    ]
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    points = {
        (content["spec"]["objective"], content["spec"]["dataset"]): content["points"][0]
        for content in contents
    }
    table = load_paper_tables()[0]
    published = dict(zip(table.datasets, table.rows["offrl-whole"], strict=True))
    for row, corl in CORL_OTHERS.items():
        for dataset, score in corl.items():
            if (point := points.get((row, f"embedded/{dataset}-v1"))) is not None:
                rows.append(
                    f"| `{row.removesuffix('-whole')}` | `{dataset}-v1` | {point['step']:,} | "
                    f"{point['normalized_return']:.1f} | {score:.1f} | {published[dataset]:.1f} |"
                )
    return "\n".join(rows)


def _row(name: str, card: dict[str, Any] | None) -> str:
    level = name.partition("-")[2].removesuffix("-v1")
    reference = get_reference(f"{name.removesuffix('-v1')}-v2")
    published = float(normalized_return(get_task(name), reference.return_mean))
    accepted = TOLERANCE.get(level, 6.0)
    if card is None:
        cells = ["–", "not built", f"{published:.1f}", f"– ({accepted:.0f})", "–"]
    else:
        shipped = card["committed"]
        difference = shipped["normalized_return_mean"] - published
        cells = [
            f"{shipped['episodes']:,}",
            f"{shipped['normalized_return_mean']:.1f}",
            f"{published:.1f}",
            f"{difference:+.1f} ({accepted:.0f})".replace("-", "−"),
            f"{card['full_collection']['transitions']:,}",
        ]
    return f"| `{name}` | {' | '.join(cells)} | {reference.rows:,} |"


if __name__ == "__main__":
    blocks = {
        "data": data_table(),
        "teachers": teacher_table(),
        "offline-rl": offline_rl_table(),
    }
    write_blocks(PAGE, blocks)
