"""Draw the curves of a study: score against outer steps and against seconds of distillation.

``python docs/studies/curves.py NAME`` draws ``docs/pictures/NAME.svg`` from the result files of the
study: one line per variant, the mean over its seeds, with logarithmic axes for steps and seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from obdbench.errors import run_script
from obdbench.reporting.plots import RC, SCORE, STYLES, WIDTH
from obdbench.results.record import Result

sys.path.insert(0, str(Path(__file__).parent))

from study import DOCS, Study, load_study

PICTURES = DOCS / "pictures"
Point = tuple[int, float, float]  # outer step, seconds a seed, score


def average_points(results: Sequence[Result]) -> list[Point]:
    """Step, seconds per seed and mean score of every evaluation point."""
    scores: dict[int, list[float]] = {}
    seconds: dict[int, float] = {}
    seeds = sum(len(result.spec.seeds) for result in results)
    for result in results:
        for point in result.points:
            scores.setdefault(point.step, []).append(point.normalized_return)
        for step, taken in result.timing.curve:
            seconds[step] = seconds.get(step, 0.0) + taken / seeds
    return [(step, seconds[step], sum(s) / len(s)) for step, s in sorted(scores.items())]


def read_curves(study: Study) -> dict[str, list[Point]]:
    """The points of each variant with results, on the first dataset of the study."""
    results_of = {
        variant.name: study.results(variant)[study.datasets[0]] for variant in study.variants
    }
    return {name: average_points(results) for name, results in results_of.items() if results}


def draw_curves(study: Study, folder: Path) -> Path:
    """Draw the curves to a file in the folder and return its path."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    curves = read_curves(study)
    if not curves:
        raise SystemExit(f"{study.name} has no results; run it first.")
    path = folder / f"{study.name}.svg"
    with rc_context(RC):
        figure = Figure(figsize=(WIDTH, WIDTH / 2.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for (name, points), (colour, dashes, marker) in zip(
            curves.items(), cycle(STYLES[3:] + STYLES[:3]), strict=False
        ):
            later = [point for point in points if point[0] > 0]
            for axes, column in ((left, 0), (right, 1)):
                at = [point[column] for point in later]
                score = [point[2] for point in later]
                style = {"color": colour, "linestyle": dashes, "marker": marker, "ms": 3.5}
                axes.plot(at, score, label=name.replace("`", ""), **style)
        for axes, label in ((left, "outer steps"), (right, "seconds of distillation, one core")):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
        left.set_ylim(bottom=0.0)
        left.set_ylabel(SCORE)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
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
