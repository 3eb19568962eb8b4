"""From a folder of result files to a collection: validated once, lightened, nothing trusted."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidDataError, ObdError
from obdbench.experiments.spec import TrialSpec
from obdbench.results.check_scores import check_scores
from obdbench.results.headline import Curve, distilled, headline
from obdbench.results.record import Manifest, Result, read_bytes, read_json

if TYPE_CHECKING:
    import pandas

MANIFEST = "manifest.json"


class ResultWarning(UserWarning):
    """A result file that was skipped."""


@dataclass(frozen=True)
class Entry:
    """One result file: its record without the bulk, and its scores as curves over outer steps."""

    file: str
    record: Result
    curves: Mapping[str, Mapping[int, Curve]]  # by arm and seed
    episodes: tuple[int, ...] = ()  # episodes of each policy behind one score

    @property
    def spec(self) -> TrialSpec:
        """What was run."""
        return self.record.spec


@dataclass(frozen=True)
class Problem:
    """A file that was not counted, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """All results of one suite, and what was expected of it."""

    suite: str
    entries: tuple[Entry, ...] = ()
    expected: Mapping[str, TrialSpec] = field(default_factory=dict)  # the manifest, by key
    problems: tuple[Problem, ...] = ()
    has_manifest: bool = False

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def missing(self) -> tuple[TrialSpec, ...]:
        """Trials of the manifest that left no result."""
        present = {entry.record.key for entry in self.entries}
        return tuple(spec for key, spec in self.expected.items() if key not in present)

    def without(self, file: str) -> Collection:
        """The same collection as if one result file had never been."""
        kept = tuple(entry for entry in self.entries if entry.file != file)
        return replace(self, entries=kept)

    def frame(self) -> pandas.DataFrame:
        """One line for each trial, arm and seed, for one's own analyses."""
        import pandas

        lines = [
            {
                "dataset": entry.spec.dataset,
                "objective": entry.spec.objective,
                "protocol": entry.spec.protocol,
                "preset": entry.spec.preset,
                "steps": entry.spec.settings.steps,
                "arm": arm,
                "seed": seed,
                "normalized_return": headline(curve),
                "best": best(curve)[1],
                "file": entry.file,
            }
            for entry in self.entries
            for arm, seeds in sorted(entry.curves.items())
            for seed, curve in sorted(seeds.items())
        ]
        return pandas.DataFrame(lines)


def best(curve: Curve) -> tuple[int, float]:
    """The best evaluation point of a seed, the earliest of equals: (step, score).

    Step 0 is none of them, as in the headline.
    """
    return max(distilled(curve), key=lambda point: (point[1], -point[0]))


def source_of(dataset: str) -> str:
    """Where a dataset comes from: ``embedded``, ``recon``, ``d4rl``, ``minari``, ``file`` ..."""
    return DatasetId(dataset).source


def read_results(folder: Path | str, strict: bool = False) -> Collection:
    """Every result of a suite's folder.

    A corrupt, foreign or older file is named in a warning and in ``problems`` and counted nowhere;
    with ``strict`` it is an error. JSON cards beside synsets are not results and are passed over.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidDataError(
            f"There is no folder {folder}.", "Run a suite first: obdbench run quick"
        )
    names = sorted(path.name for path in folder.iterdir())
    present = set(names)
    entries: list[Entry] = []
    problems: list[Problem] = []
    expected: dict[str, TrialSpec] = {}
    has_manifest = False
    for name in names:
        card = name.removesuffix(".json") + ".safetensors" in present
        if not name.endswith(".json") or name.startswith(".") or card:
            continue
        try:
            if name == MANIFEST:
                manifest = read_json(Manifest, folder / name)
                expected = {spec.key: spec for spec in manifest.trials.values()}
                has_manifest = True
            else:
                entries.append(read_entry(folder / name))
        except ObdError as error:
            if strict:
                raise
            problems.append(Problem(name, _short(str(error).replace(f"{folder}/", ""))))
    unique, repeated = _distinct(entries)
    if repeated and strict:
        raise InvalidDataError(repeated[0].reason, "Remove one of the two files.")
    problems += repeated
    for problem in problems:
        warnings.warn(f"Skipped {problem.file}: {problem.reason}", ResultWarning, stacklevel=2)
    suite = Path(os.path.abspath(folder)).name
    return Collection(suite, tuple(unique), expected, tuple(problems), has_manifest)


def read_entry(path: Path) -> Entry:
    """Read one result file."""
    return entry_of(_read(path), path.name)


def collect(results: Iterable[Result], suite: str = "results") -> Collection:
    """A collection of results that are already in memory."""
    entries, _ = _distinct(entry_of(result, f"{result.key}.json") for result in results)
    return Collection(suite, tuple(entries))


def entry_of(record: Result, file: str) -> Entry:
    """Check that a record's scores hang together, and keep what tables need of it."""
    grouped: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for point in record.points:
        curve = grouped[point.arm][point.seed]
        if point.seed not in record.spec.seeds or point.step in curve:
            raise InvalidDataError(
                f"{file} scores seed {point.seed} at step {point.step} of {point.arm!r} "
                f"{'twice' if point.step in curve else 'without having run it'}.",
                "Run the trial again.",
            )
        curve[point.step] = point.normalized_return
    check_scores(file, record)
    curves = {
        arm: {seed: tuple(sorted(curve.items())) for seed, curve in seeds.items()}
        for arm, seeds in grouped.items()
    }
    episodes = tuple(map(len, record.points[0].returns)) if record.points else ()
    light = record.model_copy(update={"points": [], "losses": {}})
    return Entry(file, light, curves, episodes)


def _read(path: Path) -> Result:
    """Parse once where the file is sound; where it is not, ``read_json`` says what is wrong."""
    try:
        record = Result.model_validate_json(read_bytes(path))
        if "schema_version" in record.model_fields_set and record.key == record.spec.key:
            return record
    except (OSError, ValueError, RecursionError, ObdError):
        pass
    return read_json(Result, path)


def _short(reason: str, limit: int = 240) -> str:
    flat = " ".join(reason.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def _distinct(entries: Iterable[Entry]) -> tuple[list[Entry], list[Problem]]:
    """One file a trial: copies of a record under another name would count twice."""
    kept: dict[str, Entry] = {}
    repeated = []
    for entry in entries:
        first = kept.setdefault(entry.record.key, entry)
        if first is not entry:
            reason = f"{entry.file} repeats the trial of {first.file}."
            repeated.append(Problem(entry.file, reason))
    return list(kept.values()), repeated
