"""Code blocks of Markdown pages, and how tests run them.

A comment on the line before a block states what the test does with it:

``<!-- test: skip: REASON -->``        the block is not run
``<!-- test: instead: COMMANDS -->``   these shell commands run instead
``<!-- test: with: OLD -> NEW -->``    the block runs with OLD, which it must contain, replaced;
                                       several replacements are separated by `` | ``
``<!-- test: same: PAGE -->``          the block is not run: a block of PAGE has all its lines
``<!-- test: save: FILE -->``          the block is written to FILE and then run
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from support.command_server import CommandServer
from support.paths import ROOT

RUNNABLE = ("bash", "python")
CHECKOUT = ("Makefile", "constraints.txt", "pyproject.toml", "examples", "leaderboards")
_BLOCK = re.compile(
    r"(?:^(?P<indent>[ ]*)<!-- test: (?P<marker>[a-z]+): (?P<argument>[^\n]*?) -->\n)?"
    r"^(?P<fence>[ ]*)```(?P<language>\w*)\n(?P<code>.*?)^(?P=fence)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block with the test comment before it."""

    page: str
    number: int
    language: str
    code: str
    marker: str = ""
    argument: str = ""

    @property
    def name(self) -> str:
        """Identifier of the block's test."""
        return f"{self.page}:{self.number}:{self.language}"

    @property
    def is_shell(self) -> bool:
        """Whether the shell runs it, rather than Python."""
        return self.language == "bash" or self.marker == "instead"

    def runnable_code(self) -> str | None:
        """The code that the test runs, or None if it is skipped."""
        if self.marker == "skip":
            assert self.argument, f"{self.name} is skipped without a reason"
            return None
        if self.marker == "instead":
            return self.argument
        if self.marker == "with":
            return self._replaced()
        if self.marker == "same":
            lines = [_without_comment(line) for line in self.code.splitlines()]
            others = [block for block in read_blocks(self.argument) if block.marker != "skip"]
            assert any(
                set(lines) <= set(map(_without_comment, b.code.splitlines())) for b in others
            )
            return None
        assert self.marker in ("", "save"), f"{self.name} has the unknown marker {self.marker!r}"
        return self.code

    def _replaced(self) -> str:
        code = self.code
        for replacement in self.argument.split(" | "):
            old, arrow, new = replacement.partition(" -> ")
            assert arrow, f"{self.name} replaces nothing"
            assert old in code, f"{self.name} does not contain {old!r}"
            code = code.replace(old, new)
        return code


def _without_comment(line: str) -> str:
    return line.partition("  #")[0].rstrip()


def read_blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [
        Block(
            page,
            number,
            match["language"],
            re.sub(f"^{match['fence']}", "", match["code"], flags=re.MULTILINE),
            match["marker"] or "",
            match["argument"] or "",
        )
        for number, match in enumerate(_BLOCK.finditer(text))
    ]
    fences = len(re.findall(r"^ *```", text, re.MULTILINE))
    assert fences == 2 * len(blocks), f"{page} has a fence without its end"
    assert text.count("<!-- test:") == sum(bool(block.marker) for block in blocks), (
        f"{page} has a test comment that does not precede a block"
    )
    return blocks


def runnable_blocks(page: str) -> list[Block]:
    """The shell and Python blocks of a page."""
    return [block for block in read_blocks(page) if block.language in RUNNABLE]


def copy_checkout(folder: Path, server: CommandServer) -> Path:
    """Fill a folder with what a reader's checkout and environment contain, for this tree."""
    for name in CHECKOUT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / "bin").mkdir()
    server.write_command(folder / "bin" / "obdbench")
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


def run_code(
    code: str, folder: Path, server: CommandServer, *, shell: bool
) -> subprocess.CompletedProcess[str]:
    """Run shell or Python code offline in a folder made by `copy_checkout`."""
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OBDBENCH_OFFLINE": "1",
    }
    if not shell:
        return server.run(folder=folder, environment=environment, code=code)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_page(
    page: str, folder: Path, server: CommandServer
) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Run the blocks of a page in order; consecutive Python blocks share one process."""
    for shell, group in groupby(runnable_blocks(page), key=lambda block: block.is_shell):
        blocks = list(group)
        for block in blocks:
            if block.marker == "save":
                (folder / block.argument).write_text(block.code, encoding="utf-8")
        code = "\n".join(block.runnable_code() or "" for block in blocks)
        yield code, run_code(code, folder, server, shell=shell)
