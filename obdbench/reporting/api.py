"""Public function that writes leaderboards."""

from __future__ import annotations

from pathlib import Path

from obdbench.reporting.pages import write_pages


def leaderboard(results: str | Path = "results", out: str | Path = "leaderboards") -> list[Path]:
    """Write the leaderboards of a folder of results, and return the files."""
    return write_pages(Path(results), Path(out))
