"""The bench room's public functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obdbench.bench.record import Result
from obdbench.bench.runner import Options, execute, plan
from obdbench.bench.suite import load_suite


def run(
    suite: str,
    *,
    objectives: Sequence[str] = (),
    datasets: Sequence[str] = (),
    protocols: Sequence[str] = (),
    seeds: Sequence[int] = (),
    preset: str | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> list[Result]:
    """Run what is missing of a suite and return all its results.

    ``suite`` is a name or the path of a TOML file; the keyword arguments narrow its grid or
    override its settings. ``options`` are the fields of
    :class:`~obdbench.bench.runner.Options`: ``out``, ``executor``, ``workers``, ``device``,
    ``timeout``, ``plugins`` and so on.
    """
    grid = load_suite(suite).select(
        objectives=objectives,
        datasets=datasets,
        protocols=protocols,
        seeds=seeds,
        preset=preset,
        settings=settings,
    )
    options = {"existing": "resume", **options}
    options["out"] = Path(options.get("out", "results"))
    options["plugins"] = tuple(options.get("plugins", ()))
    prepared = plan(grid, Options(**options))
    execute(prepared)
    found = (prepared.store.result(spec.key) for spec in prepared.specs)
    return [result for result in found if result is not None]
