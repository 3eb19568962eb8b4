"""Write ``docs/reliability.md`` from the outcomes of the reliability tests.

``make reliability`` runs the tests marked ``reliability``, which write their outcomes to
``docs/reliability/results.json``, and then ``python tools/reliability_page.py``. Failed and skipped
tests are part of the table.
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
# Reliability

`make reliability` writes this page from [reliability/results.json](reliability/results.json); do
not edit it. Each row is one fault or one kind of input. *Attempts* counts how often it was
injected, and *passed* how often the outcome was as stated. `make reliability ARGS=` with the path
of a test repeats one row. A test without a link was renamed or replaced after the measurement.
"""
TITLES = {"fault": "Faults", "input": "Invalid inputs"}


def merge_entries(entries: dict[str, Entry]) -> list[dict[str, Any]]:
    """One row for all tests with the same kind, name and injection."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for node, entry in entries.items():
        row = rows.setdefault(
            (entry["kind"], entry["name"], entry["injection"]),
            {"attempts": 0, "passed": 0, "outcomes": [], "notes": [], "tests": []},
        )
        row["attempts"] += entry["attempts"]
        row["passed"] += entry["passed"]
        test = node.partition("[")[0]
        _append_new(row["tests"], test)
        if entry["status"] == "skipped":
            _append_new(row["notes"], f"skipped: {entry['reason']}")
        else:
            _append_new(row["outcomes"], entry["outcome"])
        if entry["status"] == "failed":
            _append_new(row["notes"], f"**failed:** {entry['reason']}")
    return [
        {"kind": kind, "name": name, "injection": injection, **row}
        for (kind, name, injection), row in rows.items()
    ]


def _append_new(items: list[str], item: str) -> None:
    if item not in items:
        items.append(item)


def format_table(kind: str, entries: dict[str, Entry]) -> list[str]:
    """The table of one kind, sorted by fault or input."""
    lines = [
        "| fault or input | injection | attempts | passed | outcome | test |",
        "| :-- | :-- | --: | --: | :-- | :-- |",
    ]
    for row in sorted(
        merge_entries(entries), key=lambda row: (row["name"].lower(), row["injection"])
    ):
        if row["kind"] == kind:
            outcome = "; ".join([*row["outcomes"], *row["notes"]])
            cells = [
                row["name"],
                row["injection"],
                str(row["attempts"]),
                str(row["passed"]),
                outcome,
            ]
            lines.append(
                f"| {' | '.join(map(escape_cell, cells))} | {format_tests(row['tests'])} |"
            )
    return lines


def escape_cell(text: str) -> str:
    """Text in one line without column separators."""
    return " ".join(text.split()).replace("|", "\\|")


def format_tests(tests: Iterable[str]) -> str:
    """The names of the tests, as links to their files; a test that no longer exists has no link."""
    return ", ".join(map(_format_test, tests))


def _format_test(test: str) -> str:
    file, _, function = test.partition("::")
    name = f"`{function}`"
    path = ROOT / file
    exists = path.is_file() and f"def {function}(" in path.read_text(encoding="utf-8")
    return f"[{name}](../{file})" if exists else name


def summary(entries: dict[str, Entry]) -> str:
    """Totals in one paragraph."""
    attempts = sum(entry["attempts"] for entry in entries.values())
    passed = sum(entry["passed"] for entry in entries.values())
    counts = {
        status: sum(entry["status"] == status for entry in entries.values())
        for status in ("failed", "skipped")
    }
    dates = sorted(entry["date"] for entry in entries.values())
    return (
        f"{attempts:,} attempts in {len(entries)} tests, {passed:,} passed; {counts['failed']} "
        f"tests "
        f"failed, {counts['skipped']} were skipped. Measured "
        + (f"from {dates[0]} to {dates[-1]}." if dates[0] != dates[-1] else f"on {dates[0]}.")
    )


def format_ray_costs(report: dict[str, Any]) -> list[str]:
    """Time and memory of the Ray executor and of the local executor."""
    lines = [
        "## Cost of Ray",
        "",
        f"The suite `{report['suite']}` with {report['workers']} workers on {report['cores']} "
        f"cores, one executor after the other, by `python tools/ray_overhead.py` "
        f"({report['date']}, [reliability/overhead.json](reliability/overhead.json)). Memory is "
        "the largest sum over all processes; shared pages count once.",
        "",
        "| executor | wall s | processor s | GiB | GiB by part | load before |",
        "| :-- | --: | --: | --: | :-- | --: |",
    ]
    for run in report["runs"]:
        parts = ", ".join(f"{part} {size}" for part, size in sorted(run["gibibytes_of"].items()))
        lines.append(
            f"| {run['executor']} | {run['seconds']} | {run['processor_seconds']} | "
            f"{run['gibibytes']} | {parts} | {run['load_before']} |"
        )
    met = {True: "met", False: "**not met**"}
    equal = "are equal bit for bit" if report["results_equal"] else "**differ**"
    return [
        *lines,
        "",
        f"Ray takes {abs(report['extra_seconds'])} s ({100 * abs(report['extra_share']):.0f}%) "
        f"{'longer' if report['extra_seconds'] > 0 else 'less'}. Limits: 15 s and 10% longer "
        f"({met[report['time_met']]}), 4 GiB ({met[report['memory_met']]}). The results {equal}.",
    ]


def render_page(results: dict[str, Any], overhead: dict[str, Any] | None) -> str:
    """The Markdown of the page."""
    entries = results["tests"]
    lines = [HEAD, summary(entries)]
    for kind, title in TITLES.items():
        lines += ["", f"## {title}", "", *format_table(kind, entries)]
    if overhead is not None:
        lines += ["", *format_ray_costs(overhead)]
    return "\n".join(lines) + "\n"


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def main() -> None:
    """Write the page."""
    if not RESULTS.is_file():
        raise SystemExit(f"{RESULTS.relative_to(ROOT)} is missing: the tests did not run.")
    PAGE.write_text(render_page(read_json(RESULTS), read_json(OVERHEAD)), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}: {summary(read_json(RESULTS)['tests'])}")


if __name__ == "__main__":
    main()
