"""From a collection to grids: which results make one row, counted against what was expected.

A row is one objective with its parameters and settings, under one arm of one protocol. Results of
other rows change no number of it; a result of its own name with other outer steps on one of its
datasets parts it in two.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.model import CellData, Grid, Row, dataset_order, order_of
from obdbench.reporting.reader import Collection, Entry, source_of
from obdbench.results.headline import Curve


@dataclass(frozen=True)
class _Trial:
    """A trial that is expected, found, or both."""

    key: str
    spec: TrialSpec
    entry: Entry | None = None


def grids(collection: Collection) -> list[Grid]:
    """The collection as grids, by source and protocol."""
    trials = {key: _Trial(key, spec) for key, spec in collection.expected.items()}
    trials |= {e.record.key: _Trial(e.record.key, e.spec, e) for e in collection.entries}
    parts: dict[tuple[str, str], list[_Trial]] = defaultdict(list)
    for trial in trials.values():
        parts[source_of(trial.spec.dataset), trial.spec.protocol].append(trial)
    return [
        _grid(source, protocol, parts[source, protocol], collection)
        for source, protocol in sorted(parts)
    ]


def _grid(source: str, protocol: str, trials: list[_Trial], collection: Collection) -> Grid:
    seen = {trial.spec.dataset for trial in trials}
    planned = {trial.spec.dataset for trial in trials if trial.key in collection.expected}
    wanted = tuple(sorted(planned or seen, key=dataset_order))
    by_row: dict[str, list[_Trial]] = defaultdict(list)
    for trial, identity in zip(trials, _identities(trials), strict=True):
        by_row[identity].append(trial)
    labels = _labels(by_row)
    rows = [
        replace(row, label=labels[identity])
        for identity, members in by_row.items()
        for row in _rows(identity, members, wanted)
    ]
    rows.sort(key=order_of)
    datasets = tuple(sorted(seen, key=dataset_order))
    return Grid(source, protocol, datasets, wanted, tuple(rows), collection.has_manifest)


def _identities(trials: list[_Trial]) -> list[str]:
    """Name the row of each trial by all that is not its dataset, its seeds or its arm.

    Outer steps and the code of datasets' loaders may differ between the datasets of one row; where
    they differ on one dataset they part two rows.
    """
    contents, names = [], []
    steps: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    loaders: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for trial in trials:
        spec = trial.spec
        content = spec.model_dump(mode="json", exclude={"dataset", "seeds", "preset", "protocol"})
        del content["settings"]["steps"]
        content["code"].pop("dataset", None)
        if spec.protocol == "size":
            del content["settings"]["pairs"]
        contents.append(content)
        names.append(_canonical(content))
        cell = names[-1], spec.dataset, spec.settings.pairs
        steps[cell].add(spec.settings.steps)
        loaders[cell].add(_canonical(spec.code))
    by_steps, by_loader = (
        {name for (name, _, _), found in held.items() if len(found) > 1}
        for held in (steps, loaders)
    )
    for place, (trial, content) in enumerate(zip(trials, contents, strict=True)):
        name = names[place]
        if name in by_steps:
            content["settings"]["steps"] = trial.spec.settings.steps
        if name in by_loader:
            content["code"] = trial.spec.code
        if name in by_steps or name in by_loader:
            names[place] = _canonical(content)
    return names


def _rows(identity: str, trials: list[_Trial], wanted: tuple[str, ...]) -> Iterable[Row]:
    by_arm: dict[str, list[_Trial]] = defaultdict(list)
    arms = {arm for trial in trials if trial.entry is not None for arm in trial.entry.curves}
    for trial in trials:
        for arm in _arms_of(trial.spec, arms):
            by_arm[arm].append(trial)
    for arm, members in by_arm.items():
        by_dataset: dict[str, list[_Trial]] = defaultdict(list)
        for trial in members:
            by_dataset[trial.spec.dataset].append(trial)
        specs = [trial.spec for trial in members]
        entries = [trial.entry for trial in members if trial.entry is not None]
        yield Row(
            identity=identity,
            objective=specs[0].objective,
            arm=arm,
            label=specs[0].objective,
            preset=" ".join(sorted({spec.preset for spec in specs})),
            steps=tuple(sorted({spec.settings.steps for spec in specs})),
            seeds=frozenset(seed for spec in specs for seed in spec.seeds),
            cells={dataset: _cell(arm, group) for dataset, group in by_dataset.items()},
            wanted=wanted,
            entries=tuple(sorted(entries, key=lambda e: (dataset_order(e.spec.dataset), e.file))),
        )


def _arms_of(spec: TrialSpec, arms: set[str]) -> Iterable[str]:
    if spec.protocol == "size":
        return (str(spec.settings.pairs),)
    return sorted(arms) or ("default",)


def _cell(arm: str, trials: list[_Trial]) -> CellData:
    """Join the trials of one cell; of two scores for a seed the larger trial's stands."""
    curves: dict[int, Curve] = {}
    files, failures = [], []
    for trial in sorted(trials, key=lambda trial: (-len(trial.spec.seeds), trial.key)):
        if trial.entry is None:
            continue
        scored = trial.entry.curves.get(arm, {})
        if trial.spec.protocol == "size":
            scored = next(iter(trial.entry.curves.values()), {})
        if trial.entry.record.status != "ok":
            failures.append(trial.entry.record.status)
        new = {seed: curve for seed, curve in scored.items() if seed not in curves}
        curves |= new
        if new or not scored:
            files.append(trial.entry.file)
    expected = frozenset(seed for trial in trials for seed in trial.spec.seeds)
    return CellData(expected, curves, tuple(files), tuple(failures))


def _labels(identities: Iterable[str]) -> dict[str, str]:
    """Name rows by objective and parameters, and by whatever else tells variants apart."""
    variants: dict[str, dict[str, Any]] = defaultdict(dict)
    for identity in identities:
        content = json.loads(identity)
        variants[content["objective"]][identity] = content
    labels = {}
    for objective, contents in variants.items():
        facts = {identity: _facts(content) for identity, content in contents.items()}
        values: dict[str, set[str]] = defaultdict(set)
        for held in facts.values():
            for name, value in held.items():
                values[name].add(_canonical(value))
        varying = {
            name
            for name, held in values.items()
            if len(held) > 1 or any(name not in other for other in facts.values())
        }
        for identity, content in contents.items():
            told = {name: value for name, value in facts[identity].items() if name in varying}
            shown = content["objective_params"] | told
            details = ", ".join(f"{name}={_plain(shown[name])}" for name in sorted(shown))
            labels[identity] = f"{objective} ({details})" if details else objective
    return labels


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    flat = {**content["settings"], **content["protocol_params"]}
    flat |= {f"{component} code": source for component, source in content["code"].items()}
    rest = {"objective", "objective_params", "settings", "protocol_params", "code"}
    return flat | {name: value for name, value in content.items() if name not in rest}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
