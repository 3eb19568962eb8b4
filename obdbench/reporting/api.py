"""The report room's public function."""

from __future__ import annotations

from pathlib import Path

from obdbench.reporting.pages import write_pages


def leaderboard(results: str | Path = "results", out: str | Path = "leaderboards") -> list[Path]:
    """Write the leaderboards that follow from result files; the pages written are returned."""
    return write_pages(Path(results), Path(out))
