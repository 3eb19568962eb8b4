"""Other students, optimizers and ensembles beside the default students of the same synsets.

``python docs/studies/arms.py`` writes a table between the markers ``arms`` of ``docs/findings.md``:
of every arm of the committed results of ``recon`` the mean over datasets and seeds, and how far it
is from the default students at the same evaluation point, seed by seed, with a Student interval.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from study import DOCS, ROOT, against

from obdbench.distillation.settings import resolve_settings
from obdbench.errors import run_script
from obdbench.reporting.statistics import mean_std
from obdbench.reporting.suite_results import ResultEntry, SuiteResults, read_suite_results
from obdbench.reporting.table import format_number

PAGE = DOCS / "findings.md"
RESULTS = ROOT / "leaderboards" / "results" / "recon"
PROTOCOLS = ("ensemble", "cross-architecture", "cross-optimizer")
OBJECTIVES = ("dbc", "pbc", "av-pbc", "sdw")
_BLOCK = re.compile(r"(<!-- arms:begin -->\n).*?(<!-- arms:end -->)", re.DOTALL)
Scores = dict[str, dict[int, float]]  # by dataset and seed


def last_points(entries: Iterable[ResultEntry], arm: str) -> Scores:
    """What an arm scored at the last evaluation point."""
    found: Scores = {}
    for entry in entries:
        for seed, curve in entry.curves.get(arm, {}).items():
            found.setdefault(entry.spec.dataset, {})[seed] = curve[-1][1]
    return found


def held(results: SuiteResults, protocol: str, objective: str) -> list[ResultEntry]:
    """The results of one objective as it comes, under the preset ``fast``."""
    return [
        entry
        for entry in results.entries
        if entry.spec.protocol == protocol
        and entry.spec.objective == objective
        and entry.spec.settings == resolve_settings("fast")
        and not entry.spec.objective_params
    ]


def table(results: SuiteResults) -> str:
    """Markdown: one line an arm, one column an objective."""
    lines = [["students", *OBJECTIVES], [":--", *["--:"] * len(OBJECTIVES)]]
    default = {name: last_points(held(results, "default", name), "default") for name in OBJECTIVES}
    for protocol in PROTOCOLS:
        arms = dict.fromkeys(
            arm
            for name in OBJECTIVES
            for entry in held(results, protocol, name)
            for arm in entry.curves
        )
        for arm in arms:
            cells = [
                cell(last_points(held(results, protocol, name), arm), default[name])
                for name in OBJECTIVES
            ]
            lines.append([arm, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(found: Scores, default: Scores) -> str:
    """Mean over datasets, and the difference to the default students of the same seeds."""
    if set(found) != set(default):
        return "–"
    mean = sum(mean_std(list(seeds.values()))[0] for seeds in found.values()) / len(found)
    return f"{format_number(mean)}, {against(found, default)}"


def main() -> int:
    """Bring the page up to date."""
    text = PAGE.read_text(encoding="utf-8")
    shown = table(read_suite_results(RESULTS, strict=True))
    new = _BLOCK.sub(lambda match: f"{match[1]}\n{shown}\n{match[2]}", text)
    if new != text:
        PAGE.write_text(new, encoding="utf-8")
        print(PAGE.name)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
