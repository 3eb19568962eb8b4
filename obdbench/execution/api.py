"""The bench room's public functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obdbench.errors import ObdError
from obdbench.execution.run import ExecutionConfig, execute, plan
from obdbench.experiments.suite import load_suite
from obdbench.plugins import Plugin, load_plugins
from obdbench.results.record import Result


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
    :class:`~obdbench.execution.run.ExecutionConfig`: ``out``, ``executor``, ``workers``, ``device``,
    ``timeout``, ``plugins`` and so on. One name may stand for a list of one.

    What is done is kept when Ctrl-C or ``fail_fast`` ends the run early, which is raised.
    """
    options = {"existing": "resume", **options}
    options["out"] = Path(options.get("out", "results"))
    options["plugins"] = _several(options.get("plugins", ()))
    load_plugins([Plugin.read(reference) for reference in options["plugins"]])
    grid = load_suite(suite).select(
        objectives=_several(objectives),
        datasets=_several(datasets),
        protocols=_several(protocols),
        seeds=seeds,
        preset=preset,
        settings=settings,
    )
    prepared = plan(grid, ExecutionConfig(**options))
    summary = execute(prepared)
    if summary.ended == "interrupted":
        raise KeyboardInterrupt
    if summary.ended:
        raise ObdError(
            f"The run {summary.ended.rstrip('.')}.",
            f"What is done lies in {summary.store.folder}; existing='resume' goes on.",
        )
    found = (prepared.store.result(spec.key) for spec in prepared.specs)
    return [result for result in found if result is not None]


def _several(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
