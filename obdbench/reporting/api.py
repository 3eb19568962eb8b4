"""The report room's public function."""

from __future__ import annotations

from pathlib import Path

from obdbench.reporting.leaderboard import write


def leaderboard(results: str | Path = "results", out: str | Path = "leaderboards") -> list[Path]:
    """Write the leaderboards that follow from result files; the pages written are returned."""
    return write(Path(results), Path(out))
