"""Paths that several tests need."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
FIXTURES = TESTS / "fixtures"
TOY_PLUGIN = str(TESTS / "support" / "toy_plugin.py")
