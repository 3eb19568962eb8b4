"""Group the results of a suite into grids and count them against what the manifest expects.

A row is one objective with its parameters and settings, under one arm of one protocol. Results of
other rows do not change its numbers. Trials that differ only in the number of outer steps share a
row unless they differ on the same dataset.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.settings import PRESETS, resolve_settings
from obdbench.experiments.spec import TrialSpec, canonical_json, flatten_content, format_params
from obdbench.reporting.grids.grid import (
    BASELINES,
    Grid,
    GridCell,
    Row,
    dataset_sort_key,
    row_sort_key,
)
from obdbench.reporting.grids.suite_results import ResultEntry, SuiteResults
from obdbench.results.headline import Curve
from obdbench.results.student_checks import missed_variance, seeds_with_high_missed_variance

Trial = tuple[TrialSpec, ResultEntry | None]
END_OF_TIME = "9999"  # sorts after the times of results


def build_grids(results: SuiteResults) -> list[Grid]:
    """The grids of a suite, sorted by source and protocol."""
    trials: dict[str, Trial] = {key: (spec, None) for key, spec in results.expected.items()}
    trials |= {entry.record.key: (entry.spec, entry) for entry in results.entries}
    groups: dict[tuple[str, str], dict[str, Trial]] = defaultdict(dict)
    for key, (spec, entry) in trials.items():
        groups[DatasetId(spec.dataset).source, spec.protocol][key] = (spec, entry)
    return [_grid(*place, groups[place], results) for place in sorted(groups)]


def _grid(source: str, protocol: str, trials: Mapping[str, Trial], results: SuiteResults) -> Grid:
    specs = [spec for spec, _ in trials.values()]
    datasets = {spec.dataset for spec in specs}
    planned = {spec.dataset for key, (spec, _) in trials.items() if key in results.expected}
    expected = tuple(sorted(planned or datasets, key=dataset_sort_key))
    members: dict[str, list[Trial]] = defaultdict(list)
    for identity, trial in zip(_identities(list(trials.values())), trials.values(), strict=True):
        members[identity].append(trial)
    labels = _labels({identity: group[0][0] for identity, group in members.items()})
    rows = [
        row
        for identity, group in members.items()
        for row in _rows(identity, labels[identity], group, expected)
    ]
    return Grid(
        source=source,
        protocol=protocol,
        datasets=tuple(sorted(datasets, key=dataset_sort_key)),
        expected_datasets=expected,
        rows=tuple(sorted(rows, key=row_sort_key)),
        has_manifest=results.has_manifest,
    )


def _identities(trials: Sequence[Trial]) -> list[str]:
    """Identify the row of each trial by everything except its dataset, seeds and arm.

    The number of outer steps, the teacher and the code of dataset loaders may differ between the
    datasets of a row. Where they differ on one dataset, they are part of the identity. Of a teacher
    that was trained again, the weights that were used last stay in the row of the other datasets.
    """
    specs = [spec for spec, _ in trials]
    contents = [_row_content(spec) for spec in specs]
    bases = [canonical_json(content) for content in contents]

    def differing(value: Callable[[TrialSpec], object], per_teacher: bool = True) -> set[str]:
        """The bases with several values on one dataset, or on one dataset with one teacher."""
        values: dict[tuple[object, ...], set[object]] = defaultdict(set)
        for base, spec in zip(bases, specs, strict=True):
            teacher = spec.teacher if per_teacher else None
            values[base, spec.dataset, spec.settings.pairs, teacher].add(value(spec))
        return {str(base) for (base, *_), found in values.items() if len(found) > 1}

    teacher_differs = differing(lambda spec: spec.teacher, per_teacher=False)
    weights_differ = differing(lambda spec: spec.teacher_checksum)
    steps_differ = differing(lambda spec: spec.settings.steps)
    code_differs = differing(lambda spec: canonical_json(spec.code))
    last_weights = _last_weights(bases, trials)
    datasets = {
        base: {spec.dataset for b, spec in zip(bases, specs, strict=True) if b == base}
        for base in weights_differ
    }
    for base, spec, content in zip(bases, specs, contents, strict=True):
        if base in teacher_differs:
            content["teacher"] = spec.teacher or "default"
        is_last = last_weights[base, spec.dataset, spec.teacher] == spec.teacher_checksum
        if base in weights_differ and not (is_last and len(datasets[base]) > 1):
            content["teacher_checksum"] = (spec.teacher_checksum or "")[:8]
        if base in steps_differ:
            content["settings"]["steps"] = spec.settings.steps
        if base in code_differs:
            content["code"] = spec.code
    return [canonical_json(content) for content in contents]


def _last_weights(
    bases: Sequence[str], trials: Sequence[Trial]
) -> dict[tuple[str, str, str | None], str | None]:
    """The checksum of every teacher in the trial that was started last, or is only planned."""
    last: dict[tuple[str, str, str | None], tuple[str, str | None]] = {}
    for base, (spec, entry) in zip(bases, trials, strict=True):
        place = base, spec.dataset, spec.teacher
        started = END_OF_TIME if entry is None else entry.record.timing.started
        if place not in last or started > last[place][0]:
            last[place] = started, spec.teacher_checksum
    return {place: checksum for place, (_, checksum) in last.items()}


def _row_content(spec: TrialSpec) -> dict[str, Any]:
    left_out = {"dataset", "seeds", "preset", "protocol", "teacher", "teacher_checksum"}
    content = spec.model_dump(mode="json", exclude=left_out)
    del content["settings"]["steps"]
    content["code"].pop("dataset", None)
    if spec.protocol == "size":
        del content["settings"]["pairs"]
    return content


def _rows(
    identity: str, label: str, trials: list[Trial], expected_datasets: tuple[str, ...]
) -> Iterable[Row]:
    arms = sorted({arm for _, entry in trials if entry is not None for arm in entry.curves})
    by_arm: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        spec = trial[0]
        for arm in [str(spec.settings.pairs)] if spec.protocol == "size" else arms or ["default"]:
            by_arm[arm].append(trial)
    for arm, members in by_arm.items():
        specs = [spec for spec, _ in members]
        entries = [entry for _, entry in members if entry is not None]
        by_dataset: dict[str, list[Trial]] = defaultdict(list)
        for trial in members:
            by_dataset[trial[0].dataset].append(trial)
        yield Row(
            identity=identity,
            spec=min(specs, key=lambda spec: spec.key),
            arm=arm,
            label=label,
            preset=" ".join(sorted({spec.preset for spec in specs})),
            steps=tuple(sorted({spec.settings.steps for spec in specs})),
            seeds=frozenset(seed for spec in specs for seed in spec.seeds),
            cells={dataset: _cell(arm, group) for dataset, group in by_dataset.items()},
            expected_datasets=expected_datasets,
            trials=frozenset(spec.key for spec in specs),
            entries=tuple(
                sorted(entries, key=lambda e: (dataset_sort_key(e.spec.dataset), e.file))
            ),
        )


def _cell(arm: str, trials: list[Trial]) -> GridCell:
    """Join the trials of one cell; the trial with more seeds decides a seed that two scored."""
    curves: dict[int, Curve] = {}
    missed: dict[int, Curve] = {}
    marked: set[int] = set()
    failures: dict[int, str] = {}
    for spec, entry in sorted(trials, key=lambda trial: (-len(trial[0].seeds), trial[0].key)):
        if entry is None:
            continue
        scored = curves_in_row(entry, arm)
        if entry.record.status != "ok":
            failures = dict.fromkeys(spec.seeds, entry.record.status) | failures
        new = {seed: curve for seed, curve in scored.items() if seed not in curves}
        curves |= new
        marked |= seeds_with_high_missed_variance(entry.record) & new.keys()
        for seed in new:
            if checks := entry.record.student_checks.get(str(seed)):
                missed[seed] = tuple((check.step, missed_variance(check)) for check in checks)
    expected = frozenset(seed for spec, _ in trials for seed in spec.seeds)
    return GridCell(expected, curves, failures, missed, frozenset(marked))


def curves_in_row(entry: ResultEntry, arm: str) -> Mapping[int, Curve]:
    """The curves of a result that belong to its row of an arm.

    Under the protocol ``size``, the arm of a row is its number of pairs.
    """
    if entry.spec.protocol == "size":
        return next(iter(entry.curves.values()), {})
    return entry.curves.get(arm, {})


def _labels(specs: Mapping[str, TrialSpec]) -> dict[str, str]:
    """Name the row of each identity by its objective and the values that tell it from other rows.

    Parameters of objectives always appear, those of baselines only if they differ. A preset appears
    if most rows have another one. Settings that differ among the rows of an objective appear unless
    they have the value of the row's preset; if two rows would then have one name, all of them
    appear.
    """
    presets, known = Counter(spec.preset for spec in specs.values()), list(PRESETS)
    usual_preset = min(
        presets,
        key=lambda name: (-presets[name], known.index(name) if name in known else len(known), name),
    )
    contents = {identity: json.loads(identity) for identity in specs}
    by_objective: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for identity, content in contents.items():
        flat = _flat(specs[identity].protocol, content)
        by_objective[content["objective"]][identity] = flat
    labels: dict[str, str] = {}
    for objective, variants in by_objective.items():
        texts = [
            {(n, canonical_json(v)) for n, v in values.items()} for values in variants.values()
        ]
        equal = {name for name, _ in set.intersection(*texts)}
        names, short_names = {}, {}
        for identity, values in variants.items():
            params = {} if objective in BASELINES else contents[identity]["objective_params"]
            shown = {name: value for name, value in values.items() if name not in equal}
            preset = specs[identity].preset
            preset_values = (
                resolve_settings(preset).model_dump(mode="json") if preset in PRESETS else {}
            )
            changed = {
                name: value
                for name, value in shown.items()
                if name not in preset_values or preset_values[name] != value
            }
            if preset != usual_preset and preset in PRESETS:
                changed = {"preset": preset, **changed}
            names[identity] = f"{objective}{format_params(params | shown)}"
            short_names[identity] = f"{objective}{format_params(params | changed)}"
        distinct = len(set(short_names.values())) == len(short_names)
        labels |= short_names if distinct else names
    return labels


def _flat(protocol: str, content: dict[str, Any]) -> dict[str, Any]:
    teacher = {name: content[name] for name in ("teacher", "teacher_checksum") if name in content}
    baseline = content["objective_params"] if content["objective"] in BASELINES else {}
    return {**flatten_content(protocol, content), **baseline, **teacher}
