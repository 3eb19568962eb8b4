"""Generated blocks of Markdown pages, which stand between markers; the other text is by hand.

A block with a name is the text between the comments ``<!-- obdbench:begin NAME -->`` and
``<!-- obdbench:end NAME -->``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from obdbench.errors import InvalidDataError
from obdbench.io import write_atomically

BEGIN = "<!-- obdbench:begin "
_BLOCK = re.compile(
    r"(<!-- obdbench:begin (?P<name>[^\s>]+) -->\n)(?P<text>.*?)(<!-- obdbench:end (?P=name) -->)",
    re.DOTALL,
)


def begin_marker(name: str) -> str:
    """The marker before a generated block."""
    return f"{BEGIN}{name} -->"


def end_marker(name: str) -> str:
    """The marker after a generated block."""
    return f"<!-- obdbench:end {name} -->"


def list_blocks(text: str) -> list[tuple[str, str]]:
    """Names and texts of the blocks of a page."""
    return [(match["name"], match["text"]) for match in _BLOCK.finditer(text)]


def fill_blocks(text: str, blocks: Mapping[str, str], page: str) -> str:
    """Replace the text between markers; names that ``blocks`` lacks keep their text."""
    if text.count(BEGIN) != len(_BLOCK.findall(text)):
        raise InvalidDataError(
            f"{page} has a begin marker without its end.", "Restore the marker or the page."
        )

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in blocks:
            return match[0]
        body = f"\n{blocks[name]}\n\n" if blocks[name] else ""
        return f"{match[1]}{body}{match[4]}"

    return _BLOCK.sub(fill, text)


def write_blocks(page: Path, blocks: Mapping[str, str]) -> None:
    """Replace blocks of a page that must have them."""
    text = page.read_text(encoding="utf-8")
    names = [name for name, _ in list_blocks(text)]
    if missing := [name for name in blocks if names.count(name) != 1]:
        raise InvalidDataError(
            f"{page.name} does not have one block named {missing[0]!r}.", "Restore its markers."
        )
    write_atomically(page, fill_blocks(text, blocks, page.name))
