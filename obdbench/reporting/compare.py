"""Is one objective better than another? A verdict on common seeds, in words and in tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError, InvalidSettingError
from obdbench.registry import objectives as registry
from obdbench.reporting import statistics as stats
from obdbench.reporting.captions import CAUTION, STAND_IN, count_noun, format_ranges
from obdbench.reporting.cells import format_mean_std
from obdbench.reporting.grid import Grid, Row
from obdbench.reporting.grouping import build_grids
from obdbench.reporting.suite_results import SuiteResults, suite_results_of
from obdbench.reporting.table import Cell, Table, format_number
from obdbench.reporting.table import grid as markdown_grid
from obdbench.results.record import Result

REPLICATES = 10_000
LEVEL_WITHIN = 1e-9  # points; sums round


@dataclass(frozen=True)
class Comparison:
    """Objective ``ours`` against ``theirs`` under one protocol, on the seeds that both have."""

    ours: str
    theirs: str
    protocol: str
    arm: str
    source: str
    seeds: dict[str, tuple[int, ...]]  # by dataset
    ours_scores: tuple[tuple[float, ...], ...]
    theirs_scores: tuple[tuple[float, ...], ...]

    @property
    def difference(self) -> stats.Interval:
        """Mean of seedwise differences, with the Student interval of paired samples."""
        return stats.paired_difference(
            [
                [a - b for a, b in zip(mine, other, strict=True)]
                for mine, other in zip(self.ours_scores, self.theirs_scores, strict=True)
            ]
        )

    @property
    def chance(self) -> stats.Interval:
        """Probability of improvement."""
        return stats.bootstrap_interval(
            stats.probability_of_improvement,
            self.ours_scores,
            self.theirs_scores,
            replicates=REPLICATES,
        )

    @property
    def decided(self) -> int:
        """1 where ours is better, -1 where it is worse, 0 where the seeds cannot tell."""
        interval = self.difference
        if interval.low is None or interval.high is None:
            return 0
        return int(interval.low > 0.0) - int(interval.high < 0.0)

    @property
    def verdict(self) -> str:
        """Two or three sentences a person can use."""
        interval = self.difference
        gap = f"{format_number(abs(interval.estimate))} points"
        where = f"{count_noun(len(self.seeds), 'dataset')}, {self._seed_words()}"
        if interval.low is None or interval.high is None:
            lead = f"lies {gap} {'above' if interval.estimate > 0 else 'below'}"
            if abs(interval.estimate) < LEVEL_WITHIN:
                lead = "is level with"
            return (
                f"{self.ours} {lead} {self.theirs} on {where}, but a single common seed"
                f"{self._single_words()} says nothing of chance: run at least three. "
                f"{self._chance_words()}"
            )
        bounds = f"95% interval {format_number(interval.low)} to {format_number(interval.high)}"
        if self.decided:
            word = "better" if self.decided > 0 else "worse"
            first = f"{self.ours} is {word} than {self.theirs} by {gap} ({bounds}) on {where}."
        else:
            first = (
                f"No difference between {self.ours} and {self.theirs} can be told: "
                f"{format_number(interval.estimate, sign=True)} points ({bounds}) on {where}; "
                "the interval holds zero, so more seeds are needed or the two are equal."
            )
        return f"{first} {self._chance_words()}"

    def _chance_words(self) -> str:
        chance = self.chance
        text = f"A run of {self.ours} beats a run of {self.theirs} in "
        text += f"{100 * chance.estimate:.0f} of 100 draws"
        if chance.low is not None and chance.high is not None and chance.low < chance.high:
            text += f" (95% interval {100 * chance.low:.0f} to {100 * chance.high:.0f})"
        return f"{text}."

    def _seed_words(self) -> str:
        sets = set(self.seeds.values())
        if len(sets) == 1:
            only = next(iter(sets))
            return f"{'seeds' if len(only) > 1 else 'seed'} {format_ranges(only)}"
        counts = [len(seeds) for seeds in sets]
        if min(counts) == max(counts):
            return f"{count_noun(max(counts), 'common seed')} each"
        return f"{min(counts)} to {max(counts)} common seeds"

    def _single_words(self) -> str:
        """Where there is a single common seed, if not everywhere or on the one dataset there is."""
        single = [
            DatasetId(dataset).short_name
            for dataset, seeds in self.seeds.items()
            if len(seeds) == 1
        ]
        if len(single) < len(self.seeds):
            return f" on {', '.join(single)}"
        return " on each" if len(single) > 1 else ""


def compare_markdown(
    results: SuiteResults | Iterable[Result], objectives: Sequence[str], *, latex: bool = False
) -> str:
    """The first objective against each of the others, as Markdown; with ``latex`` also a tabular.

    The Markdown stands by itself: scores, the verdict of each pair, what it was measured on.
    """
    comparisons = compare_objectives(results, objectives)
    text = markdown(comparisons)
    return f"{text}\n\n{compare_latex(comparisons)}" if latex else text


def compare_objectives(
    results: SuiteResults | Iterable[Result], objectives: Sequence[str]
) -> list[Comparison]:
    """Every comparison of the first objective, for each source, protocol and arm in common."""
    collection = results if isinstance(results, SuiteResults) else suite_results_of(results)
    ours, *others = resolve_row_names(objectives)
    found = [
        comparison
        for part in build_grids(collection)
        for theirs in others
        for comparison in _within(part, ours, theirs)
    ]
    if not found:
        raise InvalidDataError(
            f"No dataset has results of {' and '.join([ours, *others])} with a seed in common.",
            "Run them with the same --dataset, --protocol and --seeds.",
        )
    return found


def resolve_row_names(names: Sequence[str]) -> list[str]:
    """Rows by the names that tables give them: aliases resolved, each once, at least two.

    A row of several is named in full, as in ``av-pbc (beta=0.05)``.
    """
    rows = list(dict.fromkeys(map(_row_named, names)))
    if len(rows) < 2:
        raise InvalidSettingError("A comparison needs two objectives.", "Name another one.")
    return rows


def objective_name(row: str) -> str:
    """The objective of a row's name."""
    return row.partition(" (")[0]


def _row_named(name: str) -> str:
    objective = objective_name(name.strip())
    known = registry.resolve_name(objective) if objective in registry else objective
    return known + name.strip().removeprefix(objective)


def _within(part: Grid, ours: str, theirs: str) -> Iterable[Comparison]:
    for arm in sorted({row.arm for row in part.rows}):
        mine, other = _only(part, ours, arm), _only(part, theirs, arm)
        if mine is None or other is None:
            continue
        seeds = {}
        for dataset in part.datasets:
            cells = (mine.cells.get(dataset), other.cells.get(dataset))
            if cells[0] is not None and cells[1] is not None:
                common = cells[0].curves.keys() & cells[1].curves.keys()
                if common:
                    seeds[dataset] = tuple(sorted(common))
        if seeds:
            yield Comparison(
                ours,
                theirs,
                part.protocol,
                arm,
                part.source,
                seeds,
                *(
                    tuple(row.cells[dataset].scores_of(held) for dataset, held in seeds.items())
                    for row in (mine, other)
                ),
            )


def _only(part: Grid, name: str, arm: str) -> Row | None:
    """The row of an objective; a label such as ``av-pbc (beta=0.05)`` names one of several."""
    rows = [r for r in part.rows if r.arm == arm and name in (r.objective, r.label)]
    exact = [row for row in rows if row.label == name]
    if len(rows) > 1 and len(exact) != 1:
        labels = ", ".join(sorted(row.label for row in rows))
        raise InvalidDataError(
            f"{name} stands for several rows: {labels}.", "Name one of them in full, in quotes."
        )
    return next(iter(exact or rows), None)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """A fragment for an issue or a paper."""
    parts = []
    for comparison, table in zip(comparisons, map(_table, comparisons), strict=True):
        title = f"**{comparison.ours} against {comparison.theirs}** ({_setting(comparison)})"
        parts += [title, comparison.verdict, markdown_grid(table)]
    parts.append(
        "Mean ± standard deviation over common seeds of the D4RL-normalized return, each seed the "
        "mean of its last five evaluation points, or of as many as it has, step 0 left out where "
        "there are others; the difference is paired by seed."
    )
    if any(comparison.source == STAND_IN for comparison in comparisons):
        parts.append(f"{CAUTION}.")
    return "\n\n".join(parts)


def compare_latex(comparisons: Sequence[Comparison]) -> str:
    """One booktabs tabular for each comparison."""
    return "\n\n".join(_tabular(_table(comparison)) for comparison in comparisons)


def _setting(comparison: Comparison) -> str:
    arm = "" if comparison.arm in ("default", "ensemble") else f", {comparison.arm}"
    return f"{comparison.source}, protocol {comparison.protocol}{arm}"


def _table(comparison: Comparison) -> Table:
    mark = "†" if comparison.source == STAND_IN else ""
    rows = []
    for place, (dataset, seeds) in enumerate(comparison.seeds.items()):
        mine, other = comparison.ours_scores[place], comparison.theirs_scores[place]
        part = stats.paired_difference([[a - b for a, b in zip(mine, other, strict=True)]])
        rows.append(
            _line(
                f"{DatasetId(dataset).short_name}{mark}",
                format_mean_std(mine),
                format_mean_std(other),
                part,
                format_ranges(seeds),
            )
        )
    if len(rows) > 1:
        means = [
            format_number(stats.grand_mean(scores))
            for scores in (comparison.ours_scores, comparison.theirs_scores)
        ]
        rows.append(_line("average", means[0], means[1], comparison.difference, ""))
    columns = ("dataset", comparison.ours, comparison.theirs, "difference [95%]", "seeds")
    return Table("compare", "", comparison.source, columns, tuple(rows))


def _line(name: str, ours: str, theirs: str, part: stats.Interval, seeds: str) -> tuple[Cell, ...]:
    text = format_number(part.estimate, sign=True)
    if part.low is not None and part.high is not None:
        text += f" [{format_number(part.low)}, {format_number(part.high)}]"
    return (Cell(name), Cell(ours), Cell(theirs), Cell(text), Cell(seeds))


_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "†": r"$^\dagger$",
    "\n": " ",
}


def _tabular(table: Table) -> str:
    lines = [
        [_tex(text) for text in row]
        for row in (table.columns, *([cell.text for cell in row] for row in table.rows))
    ]
    body = [f"{' & '.join(line)} \\\\" for line in lines]
    last = [r"\midrule"] if table.rows and table.rows[-1][0].text == "average" else []
    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1 : len(body) - len(last)],
            *last,
            *body[len(body) - len(last) :],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _tex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)
