"""Tables between the markers ``NAME:begin`` and ``NAME:end`` of a page, and studies by dataset."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from obdbench.datasets.embedded import NAMES
from obdbench.io import write_atomically

DOCS = Path(__file__).parent.parent


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table whose first ``left`` columns are aligned to the left."""
    lines = [header, [*[":--"] * left, *["--:"] * (len(header) - left)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_page_table(page: Path, name: str, table: str) -> None:
    """Replace what stands between the markers of a page."""
    block = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    write_atomically(page, block.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", text))


@dataclass(frozen=True)
class DatasetStudy:
    """A measurement of every embedded dataset, with one JSON file each, and its table."""

    name: str  # of the folder below ``docs/studies/results`` and of the markers
    measure: Callable[[str], dict[str, Any]]
    format_table: Callable[[Sequence[dict[str, Any]]], str]

    def run_command_line(self, page: Path, arguments: Sequence[str] | None = None) -> int:
        """``run`` measures what is missing; ``run`` and ``table`` write the table of the page."""
        parser = argparse.ArgumentParser(description=f"The study {self.name}.")
        parser.add_argument("command", choices=("run", "table"))
        folder = DOCS / "studies" / "results" / self.name
        paths = {name: folder / f"{name}.json" for name in NAMES}
        if parser.parse_args(arguments).command == "run":
            torch.set_num_threads(1)
            folder.mkdir(parents=True, exist_ok=True)
            for name, path in paths.items():
                if not path.exists():
                    print(name)
                    write_atomically(path, json.dumps(self.measure(name)) + "\n")
        rows = [json.loads(path.read_text()) for path in paths.values() if path.exists()]
        write_page_table(page, self.name, self.format_table(rows))
        return 0
