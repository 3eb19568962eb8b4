"""Studies that measure every embedded dataset, and their tables in the documentation."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from obdbench.datasets.embedded import NAMES
from obdbench.io import write_atomically
from obdbench.reporting.blocks import write_blocks

DOCS = Path(__file__).parent.parent


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table whose first ``left`` columns are aligned to the left."""
    lines = [header, [*[":--"] * left, *["--:"] * (len(header) - left)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class DatasetStudy:
    """A measurement of every embedded dataset, with one JSON file each, and its table."""

    name: str  # of the folder below ``docs/studies/results`` and of the block
    page: Path  # with the block
    measure: Callable[..., dict[str, Any]]
    format_table: Callable[[Sequence[dict[str, Any]]], str]
    cases: Mapping[str, Sequence[Any]] = field(
        default_factory=lambda: {name: (name,) for name in NAMES}
    )  # by name of the file: the arguments of ``measure``

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """``run`` measures what is missing; ``run`` and ``table`` write the table of the page."""
        parser = argparse.ArgumentParser(description=f"The study {self.name}.")
        parser.add_argument("command", choices=("run", "table"))
        folder = DOCS / "studies" / "results" / self.name
        paths = {case: folder / f"{case}.json" for case in self.cases}
        if parser.parse_args(arguments).command == "run":
            torch.set_num_threads(1)
            folder.mkdir(parents=True, exist_ok=True)
            for case, path in paths.items():
                if not path.exists():
                    print(case)
                    write_atomically(path, json.dumps(self.measure(*self.cases[case])) + "\n")
        rows = [json.loads(path.read_text()) for path in paths.values() if path.exists()]
        write_blocks(self.page, {self.name: self.format_table(rows)})
        return 0
