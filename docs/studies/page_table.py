"""Tables between the markers ``NAME:begin`` and ``NAME:end`` of a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from obdbench.io import write_atomically


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table whose first ``left`` columns are aligned to the left."""
    lines = [header, [*[":--"] * left, *["--:"] * (len(header) - left)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_page_table(page: Path, name: str, table: str) -> None:
    """Replace what stands between the markers of a page."""
    block = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    write_atomically(page, block.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", text))
