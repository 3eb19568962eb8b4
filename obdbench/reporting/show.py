"""What a result or a synset holds, as text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from obdbench.errors import InvalidDataError, strip_control_characters
from obdbench.reporting import statistics as stats
from obdbench.reporting.suite_results import MANIFEST, ResultEntry, best_point, read_result_entry
from obdbench.reporting.table import MISSING, format_number
from obdbench.results.headline import headline_score
from obdbench.results.record import read_bytes

HEADER_BYTES = 1024 * 1024


def show(path: Path | str) -> str:
    """Show a result (``.json``) or a synset (``.safetensors``)."""
    path = Path(path)
    if path.is_dir():
        raise InvalidDataError(f"{path} is a folder.", "Name a result or a synset in it.")
    if not path.is_file():
        raise InvalidDataError(f"There is no file {path}.", "Check the path.")
    if path.suffix == ".safetensors":
        return show_synset(path)
    if path.suffix != ".json" or path.name == MANIFEST:
        raise InvalidDataError(
            f"{path} is neither a result nor a synset.",
            "Give a result, OUT/SUITE/KEY.json, or a synset, NAME.safetensors.",
        )
    if path.with_suffix(".safetensors").is_file():  # a synset's card
        return show_synset(path.with_suffix(".safetensors"))
    return show_result(path)


def show_result(path: Path | str) -> str:
    """A result: what was run, where, and each arm's scores seed by seed."""
    entry = read_result_entry(Path(path))
    record, spec, timing = entry.record, entry.spec, entry.record.timing
    facts: list[tuple[str, Any]] = [
        ("trial", record.key),
        ("suite", record.suite),
        ("status", record.status if record.error is None else f"{record.status}: {record.error}"),
        ("dataset", _source(record.dataset, spec.dataset)),
        ("teacher", _source(record.teacher, MISSING)),
        ("objective", f"{spec.objective}{_params(spec.objective_params)}"),
        ("protocol", f"{spec.protocol}{_params(spec.protocol_params)}"),
        ("budget", f"{spec.preset}, {spec.settings.steps} steps, {spec.settings.pairs} pairs"),
        ("started", timing.started or MISSING),
        ("seconds", f"distil {timing.distill:.1f}, evaluate {timing.evaluate:.1f}"),
    ]
    if record.environment is not None:
        where = record.environment
        versions = ", ".join(f"{name} {value}" for name, value in sorted(where.versions.items()))
        facts += [
            ("environment", where.env_id),
            ("device", f"{where.device}, {where.threads} threads"),
            ("versions", versions),
            ("commit", where.git_commit or MISSING),
        ]
    parts = [_facts(facts)]
    parts += [_arm(entry, arm) for arm in sorted(entry.curves)]
    return "\n\n".join(parts)


def show_synset(path: Path | str) -> str:
    """A synset: shapes and types of its arrays, and its card, without loading either array."""
    path = Path(path)
    facts = [("synset", path.name), ("bytes", f"{path.stat().st_size:,}")]
    for name, array in sorted(_header(path).items()):
        shape = " × ".join(map(str, array["shape"])) or "scalar"
        facts.append((name, f"{shape} {array['dtype']}"))
    parts = [_facts(facts)]
    card = path.with_suffix(".json")
    if card.is_file():
        try:
            content = json.loads(read_bytes(card))
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidDataError(f"{card} cannot be read: {error}.", "Distil it again.") from None
        held = content if content and isinstance(content, dict) else {"card": content}
        parts.append(_facts([(name, _plain(value)) for name, value in held.items()]))
    return "\n\n".join(parts)


def _arm(entry: ResultEntry, arm: str) -> str:
    lines = [("seed", "last points", "best", "at step", "first", "points")]
    for seed, curve in sorted(entry.curves[arm].items()):
        step, top = best_point(curve)
        lines.append(
            (
                str(seed),
                format_number(headline_score(curve)),
                format_number(top),
                str(step),
                format_number(curve[0][1]),
                str(len(curve)),
            )
        )
    mean, spread = stats.mean_std([headline_score(curve) for curve in entry.curves[arm].values()])
    over = f" ± {format_number(spread)}" if spread is not None else ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = [
        "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True))
        for line in lines
    ]
    wanted = len(entry.spec.seeds)
    title = f"{strip_control_characters(arm)}: {format_number(mean)}{over}, {len(lines) - 1}/{wanted} seeds"
    return "\n".join([title, *rows])


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """Arrays named in a safetensors header: eight bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= HEADER_BYTES:
                raise ValueError("its header has an impossible length")
            header = json.loads(file.read(length))
        arrays = {name: value for name, value in header.items() if name != "__metadata__"}
        for value in arrays.values():
            math.prod(value["shape"])
            str(value["dtype"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidDataError(
            f"{path} is no readable safetensors file: {error}.", "Distil it again."
        ) from None
    return arrays


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


def _params(params: dict[str, Any]) -> str:
    return f" {_plain(params)}" if params else ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
