"""Read the result files of a suite: each file is validated once and reduced to curves of scores."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from obdbench.errors import InvalidDataError, ObdError, shorten
from obdbench.experiments.spec import TrialSpec, label_trials
from obdbench.results.check_scores import check_scores
from obdbench.results.headline import Curve, curves_of, distilled_points
from obdbench.results.record import MANIFEST, Command, Manifest, Result, read_json

LEADERBOARDS_JSON = "results.json"  # beside leaderboard pages; it is not a result


class ResultWarning(UserWarning):
    """A result file was skipped."""


@dataclass(frozen=True)
class ResultEntry:
    """One result file: its record without points and losses, and its scores as curves."""

    file: str
    record: Result
    curves: Mapping[str, Mapping[int, Curve]]  # by arm and seed
    episodes: tuple[int, ...] = ()  # number of episodes of each policy behind one score
    command: Command = ()  # the words after `obdbench` that asked for the trial

    @property
    def spec(self) -> TrialSpec:
        """The spec of the trial."""
        return self.record.spec


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not counted, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class SuiteResults:
    """All results of one suite, and the trials that its manifest expects."""

    suite: str
    entries: tuple[ResultEntry, ...] = ()
    expected: Mapping[str, TrialSpec] = field(default_factory=dict)  # trials of the manifest by key
    skipped: tuple[SkippedFile, ...] = ()
    has_manifest: bool = False

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def missing(self) -> dict[str, TrialSpec]:
        """Trials of the manifest that have no result, by key."""
        present = {entry.record.key for entry in self.entries}
        return {key: spec for key, spec in self.expected.items() if key not in present}

    @cached_property
    def labels(self) -> dict[str, str]:
        """A distinct label for each trial, by key."""
        specs = dict(self.expected) | {entry.record.key: entry.spec for entry in self.entries}
        return dict(zip(specs, label_trials(list(specs.values())), strict=True))


def best_point(curve: Curve) -> tuple[int, float]:
    """The step and score of the best evaluation point, the earliest of equal ones.

    Step 0 is left out, as in the headline score.
    """
    return max(distilled_points(curve), key=lambda point: (point[1], -point[0]))


def find_suite_folders(root: Path) -> list[Path]:
    """The visible folders below a folder of results that contain result files or a manifest."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in folders if folder.name[0] != "." and is_suite_folder(folder)]


def is_published(root: Path) -> bool:
    """Whether a folder contains the results of the leaderboards beside it, and no run's synsets.

    `obdbench leaderboard --publish` copies results but no synsets.
    """
    has_pages = root.name == "results" and (root.parent / LEADERBOARDS_JSON).is_file()
    return has_pages and not any(root.glob("*/synsets"))


def is_suite_folder(folder: Path) -> bool:
    """Whether a folder contains result files or a manifest."""
    return any(path.name != LEADERBOARDS_JSON for path in folder.glob("[!.]*.json"))


def read_suite_results(folder: Path | str, strict: bool = False) -> SuiteResults:
    """Read every result in the folder of a suite.

    A corrupt, foreign or older file is named in a warning and in ``skipped`` and is not counted;
    with ``strict`` it is an error. JSON cards beside synsets are not results and are ignored.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidDataError(
            f"There is no folder {folder}.", "Run a suite first: obdbench run quick"
        )
    names = sorted(path.name for path in folder.iterdir())
    cards = {f"{n.removesuffix('.safetensors')}.json" for n in names if n.endswith(".safetensors")}
    entries: list[ResultEntry] = []
    skipped: list[SkippedFile] = []
    manifest: Manifest | None = None
    for name in names:
        if not name.endswith(".json") or name.startswith(".") or name in cards:
            continue
        try:
            if name == MANIFEST:
                manifest = read_json(Manifest, folder / name)
            else:
                entries.append(read_result_entry(folder / name))
        except ObdError as error:
            if strict:
                raise
            skipped.append(SkippedFile(name, shorten(str(error).replace(f"{folder}/", ""))))
    unique, repeated = _distinct(entries)
    if repeated and strict:
        raise InvalidDataError(repeated[0].reason, "Remove one of the two files.")
    skipped += repeated
    for file in skipped:
        warnings.warn(f"Skipped {file.file}: {file.reason}", ResultWarning, stacklevel=2)
    trials = manifest.trials.values() if manifest is not None else ()
    commands = manifest.commands if manifest is not None else {}
    return SuiteResults(
        suite=Path(os.path.abspath(folder)).name,
        entries=tuple(replace(e, command=commands.get(e.record.key, ())) for e in unique),
        expected={spec.key: spec for spec in trials},
        skipped=tuple(skipped),
        has_manifest=manifest is not None,
    )


def read_result_entry(path: Path) -> ResultEntry:
    """Read one result file."""
    return make_entry(read_json(Result, path), path.name)


def suite_results_of(records: Iterable[Result], suite: str = "results") -> SuiteResults:
    """Suite results from records that are already in memory."""
    entries, _ = _distinct(make_entry(record, f"{record.key}.json") for record in records)
    return SuiteResults(suite, tuple(entries))


def make_entry(record: Result, file: str) -> ResultEntry:
    """Check that the scores of a record are consistent, and keep what tables need of it."""
    scored: set[tuple[str, int, int]] = set()
    for point in record.points:
        identity = (point.arm, point.seed, point.step)
        if point.seed not in record.spec.seeds or identity in scored:
            raise InvalidDataError(
                f"{file} scores seed {point.seed} at step {point.step} of {point.arm!r} "
                f"{'twice' if identity in scored else 'without having run it'}.",
                "Run the trial again.",
            )
        scored.add(identity)
    check_scores(file, record)
    return ResultEntry(
        file=file,
        record=record.model_copy(update={"points": [], "losses": {}}),
        curves=curves_of(record),
        episodes=tuple(map(len, record.points[0].returns)) if record.points else (),
    )


def _distinct(entries: Iterable[ResultEntry]) -> tuple[list[ResultEntry], list[SkippedFile]]:
    """One file per trial: a copy of a record under another name would count twice."""
    kept: dict[str, ResultEntry] = {}
    repeated = []
    for entry in entries:
        first = kept.setdefault(entry.record.key, entry)
        if first is not entry:
            reason = f"{entry.file} repeats the trial of {first.file}."
            repeated.append(SkippedFile(entry.file, reason))
    return list(kept.values()), repeated
