"""Make ``docs/reliability.md`` of what the reliability tests noted.

``make reliability`` runs the tests marked ``reliability``, which write their outcomes to
``docs/reliability/results.json``, and then this file, ``python tools/reliability_page.py``. What
failed or was skipped stands in the table like everything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "docs" / "reliability" / "results.json"
OVERHEAD = ROOT / "docs" / "reliability" / "overhead.json"

Entry = dict[str, Any]

HEAD = """\
# Reliability: faults and bad inputs, what was tried and what came of it

Made by `make reliability` from [reliability/results.json](reliability/results.json); do not edit.
One row is one fault or kind of input. *Tried* counts attempts, each of which the test judges by
itself; *held* says how many ended as the outcome says. A row is tried again by
`make reliability ARGS=` and the test behind it.
"""
KINDS = {"fault": "Faults", "input": "Bad inputs"}


def rows(entries: dict[str, Entry]) -> list[dict[str, Any]]:
    """Tests with the same ``what`` and ``how``, added up."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for node, entry in entries.items():
        row = found.setdefault(
            (entry["kind"], entry["what"], entry["how"]),
            {"tried": 0, "held": 0, "outcomes": [], "notes": [], "tests": []},
        )
        row["tried"] += entry["tried"]
        row["held"] += entry["held"]
        test = node.partition("[")[0]
        _once(row["tests"], test)
        if entry["status"] == "skipped":
            _once(row["notes"], f"not tried here: {entry['reason']}")
        else:
            _once(row["outcomes"], entry["outcome"])
        if entry["status"] == "failed":
            _once(row["notes"], f"**failed:** {entry['reason']}")
    return [
        {"kind": kind, "what": what, "how": how, **row} for (kind, what, how), row in found.items()
    ]


def _once(items: list[str], item: str) -> None:
    if item not in items:
        items.append(item)


def table(kind: str, entries: dict[str, Entry]) -> list[str]:
    """The rows of one kind, by what is tried."""
    lines = [
        "| what | how | tried | held | outcome | test |",
        "| :-- | :-- | --: | --: | :-- | :-- |",
    ]
    for row in sorted(rows(entries), key=lambda row: (row["what"].lower(), row["how"])):
        if row["kind"] == kind:
            outcome = "; ".join([*row["outcomes"], *row["notes"]])
            cells = [row["what"], row["how"], str(row["tried"]), str(row["held"]), outcome]
            lines.append(f"| {' | '.join(map(cell, cells))} | {links(row['tests'])} |")
    return lines


def cell(text: str) -> str:
    """Text that cannot break a table."""
    return " ".join(text.split()).replace("|", "\\|")


def links(tests: Iterable[str]) -> str:
    """The tests, linked to their files."""
    return ", ".join(
        f"[`{test.rpartition('/')[2].replace('::', ' ')}`](../{test.partition('::')[0]})"
        for test in tests
    )


def summary(entries: dict[str, Entry]) -> str:
    """All rows in one sentence."""
    tried = sum(entry["tried"] for entry in entries.values())
    held = sum(entry["held"] for entry in entries.values())
    counts = {
        status: sum(entry["status"] == status for entry in entries.values())
        for status in ("failed", "skipped")
    }
    dates = sorted(entry["date"] for entry in entries.values())
    return (
        f"{tried:,} attempts by {len(entries)} tests, {held:,} held; {counts['failed']} tests "
        f"failed, {counts['skipped']} could not be tried here. Measured "
        + (f"from {dates[0]} to {dates[-1]}." if dates[0] != dates[-1] else f"on {dates[0]}.")
    )


def costs(report: dict[str, Any]) -> list[str]:
    """What Ray costs beside the local executor."""
    lines = [
        "## What Ray costs",
        "",
        f"The suite `{report['suite']}` with {report['workers']} workers on {report['cores']} "
        f"cores, one executor after the other, by `python tools/ray_overhead.py` "
        f"({report['date']}, [reliability/overhead.json](reliability/overhead.json)). Memory is "
        "the largest sum over all processes, shared pages counted once.",
        "",
        "| executor | wall s | processor s | GiB in all | of which | load before |",
        "| :-- | --: | --: | --: | :-- | --: |",
    ]
    for run in report["runs"]:
        parts = ", ".join(f"{part} {size}" for part, size in sorted(run["gibibytes_of"].items()))
        lines.append(
            f"| {run['executor']} | {run['seconds']} | {run['processor_seconds']} | "
            f"{run['gibibytes']} | {parts} | {run['load_before']} |"
        )
    met = {True: "met", False: "**not met**"}
    equal = "are equal, bit for bit" if report["results_equal"] else "**differ**"
    return [
        *lines,
        "",
        f"Ray takes {abs(report['extra_seconds'])} s ({100 * abs(report['extra_share']):.0f}%) "
        f"{'longer' if report['extra_seconds'] > 0 else 'less'}; at most 15 s and 10% "
        f"longer were asked for: {met[report['time_met']]}. At most 4 GiB: "
        f"{met[report['memory_met']]}. The results {equal}.",
    ]


def render(results: dict[str, Any], overhead: dict[str, Any] | None) -> str:
    """The page."""
    entries = results["tests"]
    lines = [HEAD, summary(entries)]
    for kind, title in KINDS.items():
        lines += ["", f"## {title}", "", *table(kind, entries)]
    if overhead is not None:
        lines += ["", *costs(overhead)]
    return "\n".join(lines) + "\n"


def read(path: Path) -> Any:
    """A JSON file, None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(read(RESULTS), read(OVERHEAD)), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}: {summary(read(RESULTS)['tests'])}")


if __name__ == "__main__":
    main()
