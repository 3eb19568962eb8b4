"""Links between pages of the repository have existing targets, including headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.paths import ROOT

PAGES = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "baselines/*.md",
        "examples/**/*.md",
        "leaderboards/*.md",
        ".github/**/*.md",
    )
    for path in ROOT.glob(pattern)
)
_LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<target>[^)\s]*)\)")


def heading_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_link_targets_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    broken = []
    for match in _LINK.finditer(text):
        file, _, anchor = match["target"].partition("#")
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in heading_anchors(target)):
            broken.append(match["target"])
    assert not broken


def test_pages_contain_no_local_paths() -> None:
    pages = [page.name for page in PAGES if re.search(r"/(root|home|work)/\w", page.read_text())]
    assert not pages
