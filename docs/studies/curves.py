"""Draw a study: score and missed variance of students against seconds of distillation.

``python docs/studies/curves.py NAME`` draws ``docs/pictures/NAME.svg`` from the result files of the
study: one column per dataset and one line per variant, the mean over its seeds. The upper row shows
the score at the evaluation points, the lower row the missed variance at the checks of real students
(``guard_interval``), each from the first outer step on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import mean

import numpy as np
from study import DOCS, Study, load_study

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import run_script
from obdbench.reporting.rendering.plots import RC, STYLES, WIDTH
from obdbench.results.record import Result

PICTURES = DOCS / "pictures"
Curve = list[tuple[float, float]]  # seconds a seed, value


def score_curve(results: Sequence[Result]) -> Curve:
    """Seconds per seed and mean score of every evaluation point after step 0."""
    scores: dict[int, list[float]] = {}
    for result in results:
        for point in result.points:
            scores.setdefault(point.step, []).append(point.normalized_return)
    return [(seconds_at(results, s), mean(v)) for s, v in sorted(scores.items()) if s]


def missed_variance_curve(results: Sequence[Result]) -> Curve:
    """Seconds per seed and mean missed variance of every check after step 0."""
    missed: dict[int, list[float]] = {}
    for result in results:
        for checks in result.student_checks.values():
            for check in checks:
                if check.missed_variance is not None:  # None: a student diverged
                    missed.setdefault(check.step, []).append(check.missed_variance)
    return [(seconds_at(results, s), mean(v)) for s, v in sorted(missed.items()) if s]


def seconds_at(results: Sequence[Result], step: int) -> float:
    """Seconds per seed until an outer step, linear between evaluation points."""
    seconds = sum(float(np.interp(step, *zip(*r.timing.curve, strict=True))) for r in results)
    return seconds / sum(len(result.spec.seeds) for result in results)


def draw_curves(study: Study, folder: Path) -> Path:
    """Draw the curves to a file in the folder and return its path."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    results = {variant.name: study.results(variant) for variant in study.variants}
    if not any(r for of_dataset in results.values() for r in of_dataset.values()):
        raise SystemExit(f"{study.name} has no results; run it first.")
    path = folder / f"{study.name}.svg"
    with rc_context(RC):
        figure = Figure(figsize=(WIDTH, WIDTH / 2.2), layout="constrained")
        grid = figure.subplots(2, len(study.datasets), sharex=True, sharey="row", squeeze=False)
        for name, (color, dashes, marker) in zip(results, cycle(STYLES[3:] + STYLES[:3])):
            style = {"color": color, "linestyle": dashes, "lw": 1.2}
            for column, dataset in enumerate(study.datasets):
                if of_dataset := results[name][dataset]:
                    (top, bottom), label = grid[:, column], name.replace("`", "")
                    curve = zip(*score_curve(of_dataset), strict=True)
                    top.plot(*curve, label=label, marker=marker, ms=3, **style)
                    if missed := missed_variance_curve(of_dataset):
                        bottom.plot(*zip(*missed, strict=True), **style)
        for column, dataset in enumerate(study.datasets):
            task, _, data = DatasetId(dataset).short_name.partition("-")
            grid[0, column].set_title(f"{task}\n{data}", fontsize="small")
            axis = grid[1, column]
            axis.set_xscale("log")
            axis.set_xlabel("seconds")
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        grid[0, 0].set(ylabel="score", ylim=(0.0, None))
        grid[1, 0].set(ylabel="missed variance", ylim=(0.0, 1.0))
        labels = {
            label: handle
            for axes in grid[0]
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(labels.values(), labels, loc="outside lower center", ncols=2)
        figure.savefig(path, metadata={"Date": None})
    return path


def main(words: Sequence[str] | None = None) -> None:
    """Draw the curves of one study."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name")
    study = load_study(parser.parse_args(words).name)
    print(draw_curves(study, PICTURES))


if __name__ == "__main__":
    sys.exit(run_script(main))
