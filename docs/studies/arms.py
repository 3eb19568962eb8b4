"""Compare other students, optimizers and ensembles with the default students of the same synsets.

``python docs/studies/arms.py`` writes the table between the markers ``arms`` of
``docs/findings.md``. For each arm in the committed results of ``embedded``, it contains the mean
over datasets and seeds and the paired difference from the default students at the same evaluation
point, with a Student interval.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from study import DOCS, ROOT, format_difference

from obdbench.distillation.settings import resolve_settings
from obdbench.errors import run_script
from obdbench.reporting.statistics import mean_std
from obdbench.reporting.suite_results import ResultEntry, SuiteResults, read_suite_results
from obdbench.reporting.table import format_number

PAGE = DOCS / "findings.md"
RESULTS = ROOT / "leaderboards" / "results" / "embedded"
PROTOCOLS = ("ensemble", "cross-architecture", "cross-optimizer")
OBJECTIVES = ("dbc", "pbc", "av-pbc", "sdw")
_BLOCK = re.compile(r"(<!-- arms:begin -->\n).*?(<!-- arms:end -->)", re.DOTALL)
Scores = dict[str, dict[int, float]]  # by dataset and seed


def last_scores(entries: Iterable[ResultEntry], arm: str) -> Scores:
    """The scores of an arm at the last evaluation point."""
    scores: Scores = {}
    for entry in entries:
        for seed, curve in entry.curves.get(arm, {}).items():
            scores.setdefault(entry.spec.dataset, {})[seed] = curve[-1][1]
    return scores


def select_entries(results: SuiteResults, protocol: str, objective: str) -> list[ResultEntry]:
    """The results of an objective with default parameters and the preset ``fast``."""
    return [
        entry
        for entry in results.entries
        if entry.spec.protocol == protocol
        and entry.spec.objective == objective
        and entry.spec.settings == resolve_settings("fast")
        and not entry.spec.objective_params
    ]


def format_table(results: SuiteResults) -> str:
    """A Markdown table with one row per arm and one column per objective."""
    lines = [["students", *OBJECTIVES], [":--", *["--:"] * len(OBJECTIVES)]]
    default = {
        name: last_scores(select_entries(results, "default", name), "default")
        for name in OBJECTIVES
    }
    for protocol in PROTOCOLS:
        arms = dict.fromkeys(
            arm
            for name in OBJECTIVES
            for entry in select_entries(results, protocol, name)
            for arm in entry.curves
        )
        for arm in arms:
            cells = [
                format_arm(last_scores(select_entries(results, protocol, name), arm), default[name])
                for name in OBJECTIVES
            ]
            lines.append([arm, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def format_arm(scores: Scores, default: Scores) -> str:
    """Mean over datasets, and the difference from the default students of the same seeds."""
    if not scores or set(scores) != set(default):
        return "–"
    mean = sum(mean_std(list(seeds.values()))[0] for seeds in scores.values()) / len(scores)
    return f"{format_number(mean)}, {format_difference(scores, default)}"


def main() -> int:
    """Update the table in the page."""
    text = PAGE.read_text(encoding="utf-8")
    markdown = format_table(read_suite_results(RESULTS, strict=True))
    new = _BLOCK.sub(lambda match: f"{match[1]}\n{markdown}\n{match[2]}", text)
    if new != text:
        PAGE.write_text(new, encoding="utf-8")
        print(PAGE.name)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
