"""The command that runs a table's trials again.

It runs into a folder of its own, so that it works where the results lie already, replaces none of
them, and goes on where it was interrupted.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from obdbench.distillation.settings import PRESETS, resolve_settings
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import (
    NamedComponent,
    Suite,
    find_suite_with_protocol,
    list_suites,
    load_suite,
)
from obdbench.reporting.captions import all_seeds, distilled_rows, format_ranges
from obdbench.reporting.grid import Grid

FOLDER = "remade"
COMPARE = "compare"  # its folder belongs to no suite
SAFE = "-_./:=#,+@[] "
OPTIONS = {"--objective", "--dataset", "--protocol", "--preset", "--set", "--plugin", "--seeds"}

ExecutionConfig = tuple[str, ...]
Call = tuple[tuple[int, ...], ExecutionConfig, frozenset[str]]  # seeds, options, datasets


class _UnspokenError(Exception):
    """No option of ``obdbench run`` says this."""


def command(grid: Grid, suite: str) -> str:
    """Runs by the seeds that were one trial, and the table; empty where no call would be true."""
    if all(row.is_baseline for row in grid.rows) or suite == COMPARE:
        return ""
    name = find_suite_with_protocol(suite, grid.protocol)
    specs = [entry.spec for row in distilled_rows(grid) for entry in row.entries]
    protocol = () if grid.protocol == "default" else ("--protocol", grid.protocol)
    try:
        if name in list_suites():
            calls = list(_calls(load_suite(name), grid.protocol, specs))
        else:
            name = f"{name}.toml"
            calls = [(*protocol, *call) for call in _narrowed(specs)]
        runs = [
            f"obdbench run {_said([name, *call])} --resume --out {FOLDER}"
            for call in calls or [(*protocol, "--seeds", format_ranges(all_seeds(grid), "-"))]
        ]
    except _UnspokenError:
        return ""
    return " && ".join([*runs, f"obdbench leaderboard --out {FOLDER} --to {FOLDER}"])


def _narrowed(specs: Iterable[TrialSpec]) -> Iterable[ExecutionConfig]:
    """Of a suite of one's own, whose file alone knows the rest: the seeds."""
    for seeds, plugin in sorted({(tuple(sorted(spec.seeds)), _plugin(spec)) for spec in specs}):
        yield (*plugin, "--seeds", format_ranges(seeds, "-"))


def _calls(suite: Suite, protocol: str, specs: Iterable[TrialSpec]) -> Iterable[ExecutionConfig]:
    """Of a shipped suite: all by which the trials differ from what it holds."""
    alike: dict[tuple[tuple[int, ...], ExecutionConfig], dict[str, set[str]]] = defaultdict(dict)
    for spec in specs:
        place = (tuple(sorted(spec.seeds)), _options(suite, spec))
        alike[place].setdefault(spec.objective, set()).add(spec.dataset)
    calls: dict[Call, list[str]] = defaultdict(list)
    for (seeds, options), by_objective in alike.items():
        for objective, held in sorted(by_objective.items()):
            calls[seeds, options, frozenset(held)].append(objective)
    only = [item.name for item in suite.protocols] == [protocol]
    for seeds, options, datasets in sorted(calls, key=lambda c: (c[0], c[1], sorted(c[2]))):
        ran = calls[seeds, options, datasets]
        yield (
            *_unless("--objective", ran, [item.name for item in suite.objectives]),
            *_unless("--dataset", datasets, suite.datasets),
            *(() if only else ("--protocol", protocol)),
            *options,
            "--seeds",
            format_ranges(seeds, "-"),
        )


def _options(suite: Suite, spec: TrialSpec) -> ExecutionConfig:
    """Preset, settings and plugin of a trial, where they are not the suite's."""
    options = [] if spec.preset == suite.preset else ["--preset", spec.preset]
    _insist(spec.protocol_params, _params(suite.protocols, spec.protocol))
    if spec.preset in PRESETS:  # what a preset of one's own holds, its file alone knows
        _insist(spec.objective_params, _params(suite.objectives, spec.objective))
        usual = resolve_settings(spec.preset, suite.settings).model_dump(mode="json")
        for name, value in spec.settings.model_dump(mode="json").items():
            varied = name == "pairs" and spec.protocol == "size"
            if value != usual[name] and not varied:
                options += ["--set", f"{name}={_value(value)}"]
    return (*options, *_plugin(spec))


def _plugin(spec: TrialSpec) -> ExecutionConfig:
    """A result knows own code by its hash, not where it lies."""
    return () if not spec.code else ("--plugin", "PLUGIN")


def _params(held: Sequence[NamedComponent], name: str) -> list[dict[str, Any]]:
    return [item.params for item in held if item.name == name] or [{}]


def _insist(params: dict[str, Any], choices: list[dict[str, Any]]) -> None:
    if params not in choices:
        raise _UnspokenError


def _unless(option: str, names: Iterable[str], usual: Iterable[str]) -> ExecutionConfig:
    wanted = sorted(set(names))
    if wanted == sorted(set(usual)):
        return ()
    return tuple(word for name in wanted for word in (option, name))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _said(words: Iterable[str]) -> str:
    """One line of shell, from names that come out of files: nothing in it may mean more."""
    held = list(words)
    for word in held:
        plain = all(char.isalnum() or char in SAFE for char in word)
        if not plain or word != word.strip() or (word[:1] == "-" and word not in OPTIONS):
            raise _UnspokenError
    return shlex.join(held)
