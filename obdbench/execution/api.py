"""The public function ``obdbench.run``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from obdbench.errors import ObdError
from obdbench.execution.config import ExecutionConfig, without_folders
from obdbench.execution.run import execute, plan
from obdbench.experiments.presets import format_toml_value
from obdbench.experiments.suite import load_suite, parse_seeds
from obdbench.plugins import load_plugins
from obdbench.results.record import Result

Names = str | Sequence[str]  # a single name means a list of one


def run(
    suite: str,
    *,
    objectives: Names = (),
    datasets: Names = (),
    protocols: Names = (),
    seeds: Sequence[int] | str = (),
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    teachers: Names = (),
    plugins: Names = (),
    out: str | Path = "results",
    **execution: Any,
) -> list[Result]:
    """Run the trials of a suite that have no result yet, and return the results of all its trials.

    Results are kept if Ctrl-C or ``fail_fast`` ends the run early; either raises an exception.

    Args:
        suite: Name of a suite, or path of a TOML file.
        objectives: Run only these objectives, named as for ``--objective``.
        datasets: Run only these datasets.
        protocols: Run only these protocols.
        seeds: Run these seeds instead of the suite's; a text is read as on the command line.
        preset: Use this preset instead of the suite's.
        settings: Settings of the distillation that replace the suite's.
        teachers: Names or paths of teachers, each for all datasets or as ``DATASET=TEACHER``.
        plugins: Files or modules with user code.
        out: Folder of results.
        **execution: Other fields of :class:`~obdbench.execution.config.ExecutionConfig`:
            ``executor``, ``workers``, ``device``, ``timeout`` and so on.
    """
    seeds = parse_seeds(seeds) if isinstance(seeds, str) else tuple(seeds)
    loaded = load_plugins(_as_tuple(plugins))
    selected = load_suite(suite).select(
        objectives=_as_tuple(objectives),
        datasets=_as_tuple(datasets),
        protocols=_as_tuple(protocols),
        seeds=seeds,
        preset=preset,
        settings=dict(settings or {}),
        teachers=_as_tuple(teachers),
    )
    command = _command_words(
        suite,
        objective=_as_tuple(objectives),
        dataset=_as_tuple(datasets),
        protocol=_as_tuple(protocols),
        seeds=[",".join(map(str, seeds))] if seeds else [],
        preset=[preset] if preset else [],
        set=[f"{name}={_format_setting(value)}" for name, value in (settings or {}).items()],
        teacher=_as_tuple(teachers),
        plugin=_as_tuple(plugins),
    )
    execution = {"existing": "resume", "command": command, **execution}
    execution["loggers"] = _as_tuple(execution.get("loggers", ()))
    config = ExecutionConfig(out=Path(out), plugins=loaded, **execution)
    summary = execute(plan(selected, config))
    if summary.stop_reason == "interrupted":
        raise KeyboardInterrupt
    if summary.stop_reason:
        raise ObdError(
            f"The run {summary.stop_reason.rstrip('.')}.",
            f"Finished trials are in {summary.store.folder}; existing='resume' runs the rest.",
        )
    return [summary.results[spec.key] for spec in summary.specs if spec.key in summary.results]


def _command_words(suite: str, **options: Iterable[str]) -> tuple[str, ...]:
    """Return the words of the ``obdbench run`` call that asks for the same trials."""
    words = [f"--{name}={value}" for name, values in options.items() for value in values]
    return tuple(map(without_folders, ("run", suite, *words)))


def _format_setting(value: Any) -> str:
    """The text that ``--set`` reads as the value."""
    if value is None:
        return "null"
    return value if isinstance(value, str) else format_toml_value(value)


def _as_tuple(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
