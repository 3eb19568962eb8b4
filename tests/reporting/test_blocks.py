"""Generated blocks of pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from obdbench.errors import InvalidDataError
from obdbench.reporting.blocks import begin_marker, end_marker, list_blocks, write_blocks


def page_with(path: Path, *names: str) -> Path:
    blocks = "".join(f"{begin_marker(name)}\nold\n{end_marker(name)}\n" for name in names)
    path.write_text(f"by hand\n{blocks}end\n", encoding="utf-8")
    return path


def test_only_the_named_blocks_change(tmp_path: Path) -> None:
    page = page_with(tmp_path / "page.md", "a", "study/b")
    write_blocks(page, {"study/b": "| x |"})
    text = page.read_text(encoding="utf-8")
    assert list_blocks(text) == [("a", "old\n"), ("study/b", "\n| x |\n\n")]
    assert text.startswith("by hand\n")
    assert text.endswith("end\n")


@pytest.mark.parametrize("names", [(), ("b",), ("a", "a")])
def test_a_page_needs_the_block_once(names: tuple[str, ...], tmp_path: Path) -> None:
    page = page_with(tmp_path / "page.md", *names)
    text = page.read_text(encoding="utf-8")
    with pytest.raises(InvalidDataError, match=r"page\.md .*'a'"):
        write_blocks(page, {"a": "new"})
    assert page.read_text(encoding="utf-8") == text
