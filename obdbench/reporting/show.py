"""Describe a result or a synset as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tabulate import tabulate

from obdbench.errors import InvalidDataError, count_noun, strip_control_characters
from obdbench.experiments.spec import format_params
from obdbench.reporting.grids.suite_results import ResultEntry, best_point, read_result_entry
from obdbench.reporting.tables.captions import (
    HIGH_MISSED_VARIANCE,
    high_missed_variance_note,
)
from obdbench.reporting.tables.cells import format_mean_std
from obdbench.reporting.tables.table import MISSING, format_number
from obdbench.results.headline import headline_score
from obdbench.results.record import MANIFEST, Result, read_bytes
from obdbench.results.student_checks import missed_variance, seeds_with_high_missed_variance


def describe_file(path: Path | str) -> str:
    """Describe a result (``.json``) or a synset (``.safetensors``)."""
    path = Path(path)
    if path.is_dir():
        raise InvalidDataError(f"{path} is a folder.", "Name a result or a synset in it.")
    if not path.is_file():
        raise InvalidDataError(f"There is no file {path}.", "Check the path.")
    if path.suffix == ".safetensors":
        return describe_synset(path)
    if path.suffix != ".json" or path.name == MANIFEST:
        raise InvalidDataError(
            f"{path} is neither a result nor a synset.",
            "Give a result, OUT/SUITE/KEY.json, or a synset, NAME.safetensors.",
        )
    if path.with_suffix(".safetensors").is_file():  # a synset's card
        return describe_synset(path.with_suffix(".safetensors"))
    return describe_result(path)


def describe_result(path: Path | str) -> str:
    """A result: the trial, its environment, and the scores of each seed under each arm."""
    entry = read_result_entry(Path(path))
    record, spec, timing = entry.record, entry.spec, entry.record.timing
    facts: list[tuple[str, Any]] = [
        ("trial", record.key),
        ("suite", record.suite),
        ("status", record.status if record.error is None else f"{record.status}: {record.error}"),
        ("dataset", _source(record.dataset, spec.dataset)),
        ("teacher", _source(record.teacher, MISSING)),
        ("objective", f"{spec.objective}{format_params(spec.objective_params)}"),
        ("protocol", f"{spec.protocol}{format_params(spec.protocol_params)}"),
        ("budget", f"{spec.preset}, {spec.settings.steps} steps, {spec.settings.pairs} pairs"),
        ("started", timing.started or MISSING),
        ("seconds", f"distill {timing.distill:.1f}, evaluate {timing.evaluate:.1f}"),
    ]
    if record.environment is not None:
        environment = record.environment
        versions = ", ".join(
            f"{name} {value}" for name, value in sorted(environment.versions.items())
        )
        facts += [
            ("environment", environment.env_id),
            ("device", f"{environment.device}, {count_noun(environment.threads, 'thread')}"),
            ("versions", versions),
            ("commit", environment.git_commit or MISSING),
        ]
    parts = [_facts(facts)]
    if any(record.student_checks.values()):
        parts.append(_student_checks(record))
    parts += [_arm(entry, arm) for arm in sorted(entry.curves)]
    return "\n\n".join(parts)


def describe_synset(path: Path | str) -> str:
    """A synset: shapes and types of its arrays, and its card; no array is loaded."""
    path = Path(path)
    facts = [("synset", path.name), ("bytes", f"{path.stat().st_size:,}")]
    parts = [_facts([*facts, *_describe_arrays(path)])]
    card = path.with_suffix(".json")
    if card.is_file():
        try:
            content = json.loads(read_bytes(card))
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidDataError(
                f"{card} cannot be read: {error}.", "Distill it again."
            ) from None
        fields = content if content and isinstance(content, dict) else {"card": content}
        parts.append(_facts([(name, _plain(value)) for name, value in fields.items()]))
    return "\n\n".join(parts)


def _arm(entry: ResultEntry, arm: str) -> str:
    rows = [
        (
            seed,
            format_number(headline_score(curve)),
            format_number(best_point(curve)[1]),
            best_point(curve)[0],
            format_number(curve[0][1]),
            len(curve),
        )
        for seed, curve in sorted(entry.curves[arm].items())
    ]
    columns = ("seed", "last points", "best", "at step", "first", "points")
    table = tabulate(rows, columns, tablefmt="plain", stralign="right", disable_numparse=True)
    scores = format_mean_std([headline_score(curve) for curve in entry.curves[arm].values()])
    n_seeds = f"{len(rows)}/{len(entry.spec.seeds)} seeds"
    return f"{strip_control_characters(arm)}: {scores}, {n_seeds}\n{table}"


def _student_checks(record: Result) -> str:
    """Missed variance of each seed's checks, and marks of seeds whose students miss much of it."""
    marked = seeds_with_high_missed_variance(record)
    rows = []
    for seed, checks in sorted(record.student_checks.items(), key=lambda item: int(item[0])):
        if checks:
            best, last = min(checks, key=missed_variance), checks[-1]
            rows.append(
                (
                    f"{seed} {HIGH_MISSED_VARIANCE}" if int(seed) in marked else seed,
                    _share(last.missed_variance),
                    _share(last.missed_objective),
                    last.step,
                    _share(best.missed_variance),
                    best.step,
                    len(checks),
                    record.infinite_width_ended_at.get(seed, MISSING),
                )
            )
    columns = (
        "seed",
        "missed variance",
        "missed objective",
        "at step",
        "smallest missed variance",
        "at step",
        "checks",
        "infinite width ended early at",
    )
    table = tabulate(rows, columns, tablefmt="plain", stralign="right", disable_numparse=True)
    note = f"\n{high_missed_variance_note([record])}" if marked else ""
    return f"checks of students:\n{table}{note}"


def _share(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3g}"


def _describe_arrays(path: Path) -> list[tuple[str, str]]:
    """Name, shape and type of each array of a safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            return [
                (name, f"{' × '.join(map(str, s.get_shape())) or 'scalar'} {s.get_dtype()}")
                for name, s in slices.items()
            ]
    except (OSError, SafetensorError, ValueError) as error:
        raise InvalidDataError(
            f"{path} is not a readable safetensors file: {error}.", "Distill it again."
        ) from None


def _facts(facts: list[tuple[str, Any]]) -> str:
    width = max(len(name) for name, _ in facts)
    return "\n".join(
        f"{strip_control_characters(name):<{width}}  {strip_control_characters(str(value))}"
        for name, value in facts
    )


def _source(source: Any, otherwise: str) -> str:
    if source is None:
        return otherwise
    size = f", {source.size:,} transitions" if source.size else ""
    return f"{source.id} (SHA-256 {source.checksum[:16]}{size})"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
