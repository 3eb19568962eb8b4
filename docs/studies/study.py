"""Studies: variants of settings or objectives on common datasets and seeds, and their tables.

A study is ``docs/studies/NAME.toml``::

    datasets = ["recon/hopper-medium-replay-v2"]
    seeds = "10"                           # or ["0-2", "3-4"]: these were run as trials apart
    objective = "av-pbc"                   # of variants that name none
    settings = { smoothing = 0.0 }         # of all variants
    pairs = true                           # the second is compared with the first, the fourth ...
    [[variants]]
    name = "fast"                          # the first is what the others are compared with
    settings = { outer_lr = 0.02 }         # overrides of the preset, optional as all that follows
    objective = { name = "sdw", params = { tau = 0.2 } }
    preset = "paper"
    folder = "leaderboards/results/recon"  # where its results lie; or once for all

``run`` leaves one result file a trial in ``docs/studies/results/NAME/`` or in ``folder``, which may
be a suite's, whose trials the study then shares. ``table`` writes what follows from these files
between the markers of any page of ``docs/``::

    python docs/studies/study.py run fast-preset --workers 2
    python docs/studies/study.py table
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import run_script, unknown_name
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import execute, plan
from obdbench.experiments import presets
from obdbench.experiments.suite import NamedComponent, Suite
from obdbench.reporting.statistics import Interval, mean_std, paired_difference
from obdbench.reporting.table import format_number
from obdbench.results.headline import headline
from obdbench.results.record import Result
from obdbench.results.store import ResultStore

HERE = Path(__file__).parent
DOCS = HERE.parent
ROOT = DOCS.parent
_BLOCK = re.compile(
    r"(<!-- study:begin (?P<name>[\w-]+) -->\n).*?(<!-- study:end (?P=name) -->)", re.DOTALL
)


class Variant(BaseModel):
    """One row of a study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    objective: str | NamedComponent | None = None
    preset: str = "fast"
    folder: str = ""


class Study(BaseModel):
    """Variants on common datasets and seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    datasets: tuple[str, ...]
    seeds: str | tuple[str, ...]
    objective: str = "av-pbc"
    scoring: dict[str, int] = {"policies": 4, "episodes": 5}  # as in the suite recon
    folder: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    pairs: bool = False
    variants: tuple[Variant, ...]

    def path(self, variant: Variant) -> Path:
        """Where a variant's results lie."""
        folder = variant.folder or self.folder
        return ROOT / folder if folder else HERE / "results" / self.name

    def suites(self, variant: Variant) -> list[Suite]:
        """The trials of one variant, by groups of seeds."""
        return [
            Suite(
                name=self.path(variant).name,
                preset=variant.preset,
                datasets=self.datasets,
                objectives=[variant.objective or self.objective],
                protocols=[NamedComponent(name="default", params=self.scoring)],
                seeds=seeds,
                settings={**self.settings, **variant.settings},
            )
            for seeds in ([self.seeds] if isinstance(self.seeds, str) else self.seeds)
        ]

    def held(self, variant: Variant) -> dict[str, list[Result]]:
        """The results of one variant by dataset, where every seed has its own."""
        folder = self.path(variant)
        store = ResultStore(folder.parent, folder.name)
        held: dict[str, list[Result]] = {dataset: [] for dataset in self.datasets}
        suites = self.suites(variant)
        for suite in suites:
            for spec in suite.specs():
                result = store.result(spec.key)
                if result is not None and result.status == "ok":
                    held[spec.dataset].append(result)
        return {name: r if len(r) == len(suites) else [] for name, r in held.items()}


def load(name: str) -> Study:
    """A study by name."""
    known = sorted(path.stem for path in HERE.glob("*.toml"))
    if name not in known:
        raise unknown_name("study", name, known)
    return Study(name=name, **presets.read_toml(HERE / f"{name}.toml"))


def run(study: Study, workers: int, only: Sequence[str] = ()) -> bool:
    """Run what is missing, variant by variant; whether every trial is done."""
    names = [variant.name for variant in study.variants]
    if unknown := sorted(set(only) - set(names)):
        raise unknown_name(f"variant of {study.name}", unknown[0], names)
    done = True
    for variant in study.variants:
        if not only or variant.name in only:
            for suite in study.suites(variant):
                options = ExecutionConfig(
                    study.path(variant).parent, workers=workers, existing="resume"
                )
                summary = execute(plan(suite, options))
                done &= summary.exit_code == 0 and not summary.stop_reason
    return done


def scores(results: Sequence[Result]) -> dict[int, float]:
    """A seed's score, as the leaderboard takes it."""
    found = {}
    for result in results:
        for seed in result.spec.seeds:
            points = sorted((p.step, p.normalized_return) for p in result.points if p.seed == seed)
            found[seed] = headline(tuple(points))
    return found


def table(study: Study) -> str:
    """Scores of every variant, its cost, and its difference to the first."""
    names = [DatasetId(dataset).short_name.replace("-", "<br>", 1) for dataset in study.datasets]
    against_what = "against the row above" if study.pairs else "against the first"
    header = ["variant", *names, "average", against_what, "s a seed"]
    lines = [header, [":--", *["--:"] * (len(header) - 1)]]
    reference: dict[str, dict[int, float]] = {}
    files: dict[str, set[str]] = {}
    for index, variant in enumerate(study.variants):
        held = study.held(variant)
        found = {name: scores(results) for name, results in held.items() if results}
        all_results = [result for results in held.values() for result in results]
        seconds = [r.timing.distill / len(r.spec.seeds) for r in all_results if r.timing.distill]
        for r in all_results:
            if r.dataset is not None:
                files.setdefault(r.dataset.id, set()).add(r.dataset.checksum)
        first = index % 2 == 0 if study.pairs else index == 0
        reference = found if first else reference
        cells = [cell(list(found[name].values())) if name in found else "–" for name in held]
        complete = len(found) == len(held)
        mean = sum(mean_std(list(s.values()))[0] for s in found.values()) / max(1, len(found))
        cells.append(format_number(mean) if complete else "–")
        cells.append(against(found, reference) if complete and not first else "–")
        cells.append(f"{sum(seconds) / len(seconds):.0f}" if seconds else "–")
        lines.append([variant.name, *cells])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    if any(len(checksums) > 1 for checksums in files.values()):
        text += (
            "\n*Not all rows were run on the same files of these names: stand-ins that other "
            "processors rebuild have other bytes.*\n"
        )
    return text


def cell(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds."""
    mean, spread = mean_std(values)
    return format_number(mean) + ("" if spread is None else f" ± {format_number(spread)}")


def against(found: dict[str, dict[int, float]], reference: dict[str, dict[int, float]]) -> str:
    """Mean of the seedwise differences over the datasets, with its interval."""
    if not set(found) <= set(reference):
        return "–"
    interval: Interval = paired_difference(
        [[found[name][seed] - reference[name][seed] for seed in found[name]] for name in found]
    )
    text = format_number(interval.estimate, sign=True)
    if interval.low is not None and interval.high is not None:
        text += f" ({format_number(interval.low, sign=True)} to {format_number(interval.high, sign=True)})"
    return text


def write_tables(pages: Sequence[Path]) -> list[Path]:
    """Bring every marked table of the pages up to date; the pages that changed."""
    changed = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        new = _BLOCK.sub(
            lambda match: match[1] + "\n" + table(load(match["name"])) + "\n" + match[3],
            text,
        )
        if new != text:
            page.write_text(new, encoding="utf-8")
            changed.append(page)
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run what is missing of a study")
    running.add_argument("study")
    running.add_argument("--workers", type=int, default=2)
    running.add_argument("--only", action="append", default=[], help="a variant; may be repeated")
    commands.add_parser("table", help="write the tables of all pages")
    options = parser.parse_args(arguments)
    if options.command == "run":
        study = load(options.study)
        return 0 if run(study, options.workers, options.only) else 1
    for page in write_tables(sorted(DOCS.glob("*.md"))):
        print(page.name)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
