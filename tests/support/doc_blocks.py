"""Code blocks of Markdown pages, and what their test markers say.

A marker is an HTML comment on the line before a block, so that it can be read in the source:

``<!-- test: skip: REASON -->``          the block is not run
``<!-- test: instead: COMMANDS -->``     these shell commands are run in its place
``<!-- test: with: OLD -> NEW -->``      it is run with a text replaced; OLD must occur in it
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from support.paths import ROOT

RUNNABLE = ("bash", "python")
_BLOCK = re.compile(
    r"(?:^<!-- test: (?P<kind>[a-z]+): (?P<what>[^\n]*?) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block, and the marker before it."""

    page: str
    number: int
    language: str
    code: str
    kind: str = ""
    what: str = ""

    @property
    def name(self) -> str:
        """For the test's identifier."""
        return f"{self.page}:{self.number}:{self.language}"

    def commands(self) -> str | None:
        """What is run, None where nothing is."""
        if self.kind == "skip":
            assert self.what, f"{self.name} is skipped without a reason"
            return None
        if self.kind == "instead":
            return self.what
        if self.kind == "with":
            old, arrow, new = self.what.partition(" -> ")
            assert arrow, f"{self.name} replaces nothing"
            assert old in self.code, f"{self.name} does not hold {old!r}"
            return self.code.replace(old, new)
        assert not self.kind, f"{self.name} has the unknown marker {self.kind!r}"
        return self.code


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [
        Block(page, number, m["language"], m["code"], m["kind"] or "", m["what"] or "")
        for number, m in enumerate(_BLOCK.finditer(text))
    ]
    assert text.count("\n```") == 2 * len(found), f"{page} has a fence without its end"
    assert text.count("<!-- test:") == sum(bool(block.kind) for block in found), (
        f"{page} has a test marker that stands before no block"
    )
    return found
