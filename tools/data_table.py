"""Fill in the table of the embedded datasets in ``docs/data.md`` from their cards.

The table stands between the comments ``<!-- data: begin -->`` and ``<!-- data: end -->``. After a
dataset was built, run::

    python tools/data_table.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from obdbench.datasets.embedded import FILES, V1_NAMES
from obdbench.datasets.references import get_reference
from obdbench.io import write_atomically
from obdbench.tasks.task import get_task, normalized_return

PAGE = Path(__file__).parents[1] / "docs" / "data.md"
TOLERANCE = {"medium-expert": 10.0}  # points; 6 for the other levels
COLUMNS = "| dataset | episodes | return | D4RL | difference (accepted) | full collection | D4RL |"
_BLOCK = re.compile(r"(?<=<!-- data: begin -->\n).*?(?=<!-- data: end -->)", re.DOTALL)


def data_table(folder: Path = FILES) -> str:
    """One row per dataset of version 1: mean normalized returns beside D4RL's."""
    rows = [COLUMNS, "| :-- | --: | --: | --: | --: | --: | --: |"]
    for name in V1_NAMES:
        path = folder / f"{name}.json"
        card = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        rows.append(_row(name, card))
    return "\n".join(rows) + "\n"


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


def fill_table(page: str, folder: Path = FILES) -> str:
    """The page with the table made again."""
    filled, count = _BLOCK.subn(lambda _: data_table(folder), page)
    if count != 1:
        raise SystemExit(f"{PAGE.name} needs one block between data: begin and data: end.")
    return filled


if __name__ == "__main__":
    write_atomically(PAGE, fill_table(PAGE.read_text(encoding="utf-8")))
