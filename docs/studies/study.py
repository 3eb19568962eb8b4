"""Studies: variants of settings or objectives on common datasets and seeds, and their tables.

A study is ``docs/studies/NAME.toml``::

    datasets = ["embedded/hopper-medium-replay-v1"]
    seeds = "10"
    seeds_per_trial = 3                    # default: all seeds in one trial
    objective = "av-pbc"                   # of variants that name no objective
    settings = { smoothing = 0.0 }         # of all variants
    teachers = { "file:x.npz" = "x.safetensors" }  # of datasets without a teacher of their own
    pairs = true                           # compare row 2 with row 1, row 4 with row 3, ...
    [[variants]]
    name = "fast"                          # without ``pairs``, rows are compared with the first
    settings = { outer_lr = 0.02 }         # overrides of the preset; this and the rest is optional
    objective = { name = "sdw", params = { tau = 0.2 } }
    preset = "paper"
    scoring = { steps = 200 }              # settings of the protocol; also for all variants
    folder = "leaderboards/results/embedded"  # folder of the results; also for all variants

``run`` writes one result file per trial to ``docs/studies/results/NAME/`` or to ``folder``, which
can be the folder of a suite whose trials the study shares. ``table`` writes the tables of these
results into the blocks ``study/NAME`` of the pages in ``docs/``::

    python docs/studies/study.py run preset --workers 2
    python docs/studies/study.py table
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset_study import DOCS, markdown_table
from pydantic import BaseModel, ConfigDict, Field

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import run_script, unknown_name
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import execute, plan
from obdbench.experiments import presets
from obdbench.experiments.suite import NamedComponent, Suite
from obdbench.reporting.blocks import list_blocks, write_blocks
from obdbench.reporting.grids.statistics import Interval, mean_interval, mean_std
from obdbench.reporting.tables.cells import format_mean_std
from obdbench.reporting.tables.table import format_number
from obdbench.results.headline import curves_of, headline_score
from obdbench.results.record import Result
from obdbench.results.store import ResultStore

HERE = DOCS / "studies"
ROOT = DOCS.parent
BLOCKS = "study/"  # before the name of a study in that of the block with its table


class Variant(BaseModel):
    """One row of a study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    objective: str | NamedComponent | None = None
    preset: str = "fast"
    scoring: dict[str, int | float] = Field(default_factory=dict)
    folder: str = ""


class Study(BaseModel):
    """Variants on common datasets and seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    datasets: tuple[str, ...]
    seeds: str
    seeds_per_trial: int | None = None
    objective: str = "av-pbc"
    scoring: dict[str, int | float] = {"policies": 4, "episodes": 5}  # as in the suite embedded
    folder: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    teachers: dict[str, str] = Field(default_factory=dict)
    pairs: bool = False
    variants: tuple[Variant, ...]

    def results_folder(self, variant: Variant) -> Path:
        """The folder of a variant's results."""
        folder = variant.folder or self.folder
        return ROOT / folder if folder else HERE / "results" / self.name

    def suite(self, variant: Variant) -> Suite:
        """The trials of a variant."""
        scoring = {**self.scoring, **variant.scoring}
        return Suite(
            name=self.results_folder(variant).name,
            preset=variant.preset,
            datasets=self.datasets,
            objectives=[variant.objective or self.objective],
            teachers=self.teachers,
            protocols=[NamedComponent(name="default", params=scoring)],
            seeds=self.seeds,
            seeds_per_trial=self.seeds_per_trial,
            settings={**self.settings, **variant.settings},
        )

    def results(self, variant: Variant) -> dict[str, list[Result]]:
        """The results of a variant by dataset; a dataset with a missing trial has none."""
        folder = self.results_folder(variant)
        store = ResultStore(folder.parent, folder.name)
        results: dict[str, list[Result | None]] = {dataset: [] for dataset in self.datasets}
        for spec in self.suite(variant).specs():
            result = store.read_result(spec.key)
            is_good = result is not None and result.status == "ok"
            results[spec.dataset].append(result if is_good else None)
        return {
            dataset: [] if None in found else [result for result in found if result is not None]
            for dataset, found in results.items()
        }


def load_study(name: str) -> Study:
    """Load a study by its name."""
    known = sorted(path.stem for path in HERE.glob("*.toml"))
    if name not in known:
        raise unknown_name("study", name, known)
    return Study(name=name, **presets.read_toml(HERE / f"{name}.toml"))


def run_study(study: Study, workers: int, only: Sequence[str] = ()) -> bool:
    """Run the missing trials of a study and return whether all trials are complete."""
    names = [variant.name for variant in study.variants]
    if unknown := sorted(set(only) - set(names)):
        raise unknown_name(f"variant of {study.name}", unknown[0], names)
    complete = True
    for variant in study.variants:
        if not only or variant.name in only:
            folder = study.results_folder(variant).parent
            config = ExecutionConfig(folder, workers=workers, existing="resume")
            summary = execute(plan(study.suite(variant), config))
            complete &= summary.exit_code == 0 and not summary.stop_reason
    return complete


def seed_scores(results: Sequence[Result]) -> dict[int, float]:
    """The score of each seed, computed as for the leaderboard."""
    return {
        seed: headline_score(curve)
        for result in results
        for seed, curve in curves_of(result)["default"].items()
    }


def format_table(study: Study) -> str:
    """Scores, cost and difference of every variant as a Markdown table."""
    names = [DatasetId(dataset).short_name.replace("-", "<br>", 1) for dataset in study.datasets]
    other = "row above" if study.pairs else "first row"
    header = ["variant", *names, "average", f"difference to {other}", "s per seed"]
    lines = []
    reference: dict[str, dict[int, float]] = {}
    checksums: dict[str, set[str]] = {}
    for index, variant in enumerate(study.variants):
        results = study.results(variant)
        scores = {
            name: seed_scores(variant_results)
            for name, variant_results in results.items()
            if variant_results
        }
        all_results = [result for variant_results in results.values() for result in variant_results]
        seconds = [r.timing.distill / len(r.spec.seeds) for r in all_results if r.timing.distill]
        for result in all_results:
            if result.dataset is not None:
                checksums.setdefault(result.dataset.id, set()).add(result.dataset.checksum)
        is_reference = index % 2 == 0 if study.pairs else index == 0
        reference = scores if is_reference else reference
        cells = [format_mean_std(list(scores[d].values())) if d in scores else "–" for d in results]
        complete = len(scores) == len(results)
        mean = sum(mean_std(list(s.values()))[0] for s in scores.values()) / max(1, len(scores))
        cells.append(format_number(mean) if complete else "–")
        difference = format_difference(scores, reference)
        cells.append(difference if complete and not is_reference else "–")
        cells.append(f"{sum(seconds) / len(seconds):.0f}" if seconds else "–")
        lines.append([variant.name, *cells])
    text = markdown_table(header, lines)
    if any(len(values) > 1 for values in checksums.values()):
        text += "\n\n*The rows use different files of one dataset name; their checksums differ.*"
    return text


def format_difference(
    scores: dict[str, dict[int, float]], reference: dict[str, dict[int, float]]
) -> str:
    """Mean over datasets of the paired differences over seeds, with its interval."""
    if not scores or not set(scores) <= set(reference):
        return "–"
    interval: Interval = mean_interval(
        [[scores[d][seed] - reference[d][seed] for seed in scores[d]] for d in scores]
    )
    text = format_number(interval.estimate, sign=True)
    if interval.low is not None and interval.high is not None:
        bounds = (format_number(bound, sign=True) for bound in (interval.low, interval.high))
        text += f" ({' to '.join(bounds)})"
    return text


def write_tables(pages: Sequence[Path]) -> list[Path]:
    """Update the marked tables of the pages and return the pages that changed."""
    changed = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        names = [name for name, _ in list_blocks(text) if name.startswith(BLOCKS)]
        tables = {name: format_table(load_study(name.removeprefix(BLOCKS))) for name in names}
        write_blocks(page, tables)
        if page.read_text(encoding="utf-8") != text:
            changed.append(page)
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run the missing trials of a study")
    running.add_argument("study")
    running.add_argument("--workers", type=int, default=2)
    running.add_argument("--only", action="append", default=[], help="a variant; may be repeated")
    commands.add_parser("table", help="write the tables of all pages")
    options = parser.parse_args(arguments)
    if options.command == "run":
        study = load_study(options.study)
        return 0 if run_study(study, options.workers, options.only) else 1
    for page in write_tables(sorted(DOCS.glob("*.md"))):
        print(page.name)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
