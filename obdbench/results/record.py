"""Result records: the JSON files of trials and suites. Leaderboards are a pure function of them.

This is schema 1. The comment behind each field documents its key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obdbench.errors import InvalidDataError, ObdError, format_validation_error
from obdbench.experiments.spec import TrialSpec
from obdbench.io import write_atomically

R = TypeVar("R", bound="Record")
SCHEMA = 1
MANIFEST = "manifest.json"  # name of the file of a Manifest
MAX_BYTES = 16 * 1024 * 1024
MAX_WORD_LENGTH = 1000  # of a recorded command
Count = Annotated[int, Field(ge=0, le=10**18)]  # longer numbers cannot be printed
Seed = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
Status = Literal["ok", "failed", "timeout"]


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Record(BaseModel):
    """Base class of records: immutable, without unknown keys, infinities or NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Point(Record):
    """The score of one seed at one evaluation point under one arm of the protocol."""

    seed: Count  # seed of the trial
    step: Count  # outer step of the synset
    arm: str  # what the protocol varied: an architecture, an optimizer, "default", "ensemble"
    returns: list[list[float]]  # raw episode returns, one list per policy
    normalized_return: float  # mean over all of them, normalized as in D4RL


class StudentCheckRecord(Record):
    """What real students missed in a check; null if a student diverged."""

    step: Count  # outer step of the synset that the students were cloned on
    missed_variance: Annotated[float, Field(ge=0)] | None
    # share of the variance of the target actions that the students miss, 1 − R²
    missed_objective: float | None
    # value of the objective as a share of its value for the mean target action


class Timing(Record):
    """Wall times in seconds; the only part that differs between equal runs."""

    started: str = ""  # ISO 8601, UTC
    distill: float = 0.0  # whole distillation, all seeds; 0 where synsets were reused
    prepare: float = 0.0  # until the first evaluation point: loading data, preparing the objective
    evaluate: float = 0.0  # scoring, all points
    curve: list[tuple[Count, float]] = Field(default_factory=list)  # (step, seconds of distilling)


class Environment(Record):
    """Environment and machine of the measurement."""

    env_id: str  # gymnasium identifier
    device: str  # "cpu" or the GPU's name
    threads: Count  # torch threads of the trial
    versions: dict[str, str]  # packages that affect scores
    reference_returns: tuple[float, float] | None = None  # of a random and an expert policy
    git_commit: str | None = None  # commit of the source tree, if it is a git checkout


class DataIdentity(Record):
    """Identity of a dataset or a teacher."""

    id: str
    checksum: str  # SHA-256 of the content
    size: Count | None = None  # transitions, for datasets


class Result(Record):
    """The result of one trial."""

    schema_version: Literal[1] = 1
    key: str  # hash of the resolved spec
    suite: str  # suite that the trial was run for
    spec: TrialSpec  # the whole spec
    status: Status
    error: str | None = None  # one line, if status is not ok
    points: list[Point] = Field(default_factory=list)
    losses: dict[str, list[tuple[Count, float]]] = Field(default_factory=dict)
    # by seed: (step, value of the objective)
    student_checks: dict[Seed, list[StudentCheckRecord]] = Field(default_factory=dict)
    # by seed, in the order of steps; empty unless guard_interval is set
    infinite_width_ended_at: dict[Seed, Count] = Field(default_factory=dict)
    # by seed: step of the check that ended the infinite-width phase early
    timing: Timing = Field(default_factory=Timing)
    environment: Environment | None = None
    dataset: DataIdentity | None = None
    teacher: DataIdentity | None = None

    @classmethod
    def unfinished(
        cls, spec: TrialSpec, suite: str, status: Status, error: str, started: str | None = None
    ) -> Result:
        """Return the result of a trial that has no scores, with the reason."""
        timing = Timing(started=started or utc_now())
        return cls(key=spec.key, suite=suite, spec=spec, status=status, error=error, timing=timing)


Command = tuple[Annotated[str, Field(max_length=MAX_WORD_LENGTH)], ...]


class Manifest(Record):
    """Every trial that a suite expects, so that missing ones are known, and the command of each."""

    schema_version: Literal[1] = 1
    suite: str
    trials: dict[str, TrialSpec]  # by key
    commands: dict[str, Command] = Field(default_factory=dict)
    # by key: the words after `obdbench` of the first command line that asked for the trial

    def with_trials(self, specs: Iterable[TrialSpec], command: Sequence[str] = ()) -> Manifest:
        """Return the manifest with more trials, which a command asked for."""
        trials = {spec.key: spec for spec in specs}
        commands = dict.fromkeys(trials, tuple(command)) if command else {}
        return Manifest(suite=self.suite, trials=trials, commands=commands).merge(self)

    def merge(self, earlier: Manifest) -> Manifest:
        """Return the trials of both, sorted by key, with the earlier command of each trial."""
        trials = {**earlier.trials, **self.trials}
        commands = {**self.commands, **earlier.commands}
        return Manifest(
            suite=self.suite,
            trials=dict(sorted(trials.items())),
            commands=dict(sorted(commands.items())),
        )


def write_json(record: Record, path: Path) -> None:
    """Write a record as JSON, atomically."""
    content = json.dumps(record.model_dump(mode="json"), separators=(",", ":"))
    write_atomically(path, content + "\n")


def read_bytes(path: Path) -> bytes:
    """Read a regular file that is not larger than a record can be."""
    if not path.is_file():
        raise InvalidDataError(f"{path} is not a regular file.", "Remove it.")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InvalidDataError(f"{path} is too large for a record.", "Remove it.")
    return content


def _check_version(path: Path, raw: str, remedy: str) -> None:
    """Raise an error unless a JSON text states the schema version of this module."""
    content = json.loads(raw)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise InvalidDataError(
            f"{path} has schema version {version!r:.80}; this version reads {SCHEMA}.", remedy
        )


def read_json(model: type[R], path: Path) -> R:
    """Read and validate a record; a corrupt, foreign or older file raises InvalidDataError."""
    remedy = f"Restore it, or run the {'trial' if model is Result else 'suite'} again."
    try:
        raw = read_bytes(path).decode("utf-8")
        try:
            record = model.model_validate_json(raw)
        except ValidationError:
            _check_version(path, raw, remedy)
            raise
        if "schema_version" not in record.model_fields_set:
            _check_version(path, raw, remedy)
        if isinstance(record, Result) and record.key != record.spec.key:
            raise InvalidDataError(
                f"{path} names the trial {record.key} but its spec is that of {record.spec.key}.",
                remedy,
            )
    except ObdError:
        raise
    except ValidationError as error:
        raise InvalidDataError(
            f"{path} is not a valid record: {format_validation_error(error)}",
            remedy,
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # an endless number is a ValueError
        raise InvalidDataError(f"{path} cannot be read: {error}.", remedy) from error
    return record


def read_if_valid(model: type[R], path: Path) -> R | None:
    """Read a record; None if the file is missing or :func:`read_json` refuses it."""
    try:
        return read_json(model, path) if path.is_file() else None
    except InvalidDataError:
        return None
