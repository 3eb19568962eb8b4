"""Where stand-ins of D4RL datasets are cached."""

from __future__ import annotations

from pathlib import Path

from obdbench.datasets.download import cache_root

SIZE = 100_000
RECIPE = 6


def cache_path(name: str) -> Path:
    """Path of a stand-in; the version of the recipe is part of the name."""
    return cache_root() / "recon" / f"{name}-{SIZE}-r{RECIPE}.npz"
