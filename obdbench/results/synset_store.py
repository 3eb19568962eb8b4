"""The files of one distillation: synsets at each evaluation point, shared by protocols.

``synsets/<distill_key>/<step>/seed<seed>.safetensors``, with a JSON card for each. The folder of a
step is created complete, and ``distillation.json`` is written last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal

from pydantic import Field

from obdbench.distillation.synset import Synset
from obdbench.experiments.spec import TrialSpec
from obdbench.io import sync
from obdbench.results.record import (
    Count,
    DataIdentity,
    Point,
    Record,
    Seed,
    StudentCheckRecord,
    read_if_valid,
    write_json,
)
from obdbench.results.store import ResultStore, storage_errors


class DistillationRecord(Record):
    """A finished distillation."""

    schema_version: Literal[1] = 1
    steps: list[int]  # evaluation points whose synsets are stored
    losses: dict[str, list[tuple[int, float]]] = Field(default_factory=dict)  # per seed
    student_checks: dict[Seed, list[StudentCheckRecord]] = Field(default_factory=dict)  # per seed
    infinite_width_ended_at: dict[Seed, Count] = Field(default_factory=dict)  # step per seed
    seconds: float = 0.0  # distilling, all seeds
    prepare: float = 0.0  # objective's preparation
    curve: list[tuple[int, float]] = Field(default_factory=list)  # (step, seconds)
    env_id: str  # gymnasium identifier of the task's environment
    reference_returns: tuple[float, float] | None = None  # of the task
    dataset: DataIdentity
    teacher: DataIdentity | None = None


class PartialScores(Record):
    """Scores of a trial that is not finished."""

    schema_version: Literal[1] = 1
    points: dict[int, list[Point]]  # by step
    seconds: float = 0.0


class SynsetStore:
    """The files of the distillation of a trial in a result store."""

    def __init__(self, store: ResultStore, spec: TrialSpec) -> None:
        self.store, self.spec = store, spec
        self.folder = store.folder / "synsets" / spec.distill_key
        self.work_folder = store.work_folder / spec.distill_key

    @property
    def snapshot(self) -> Path:
        """Path of the state from which an interrupted distillation continues."""
        return self.work_folder / "snapshot"

    @property
    def scores_path(self) -> Path:
        """Path of the scores of the unfinished trial."""
        return self.work_folder / f"scores-{self.spec.key}.json"

    def synset_path(self, step: int, seed: int) -> Path:
        """Path of a synset."""
        return self.folder / str(step) / f"seed{seed}.safetensors"

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from working on the same distillation."""
        return self.store.lock_distillation(self.spec.distill_key)

    def read_record(self) -> DistillationRecord | None:
        """Read the record if the distillation is finished and all its synsets exist."""
        record = read_if_valid(DistillationRecord, self.folder / "distillation.json")
        complete = record is not None and set(record.steps) <= set(self.complete_steps())
        return record if complete else None

    def complete_steps(self) -> list[int]:
        """Evaluation points at which the synset of every seed exists."""
        if not self.folder.is_dir():
            return []
        steps = sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())
        return [
            step
            for step in steps
            if all(self.synset_path(step, seed).is_file() for seed in self.spec.seeds)
        ]

    def save_synsets(self, step: int, synsets: list[Synset]) -> None:
        """Write the synsets of all seeds at one evaluation point."""
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".{step}."))
            try:
                temporary.chmod(0o755)
                for seed, synset in zip(self.spec.seeds, synsets, strict=True):
                    synset.save(temporary / f"seed{seed}.safetensors")
                final = self.folder / str(step)
                if final.exists():
                    shutil.rmtree(final)
                os.replace(temporary, final)
                with suppress(OSError):  # some network file systems cannot sync a folder
                    sync(self.folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    def load_synsets(self, step: int) -> list[Synset]:
        """Load the synsets of all seeds at one evaluation point."""
        return [Synset.load(self.synset_path(step, seed)) for seed in self.spec.seeds]

    def save_record(self, record: DistillationRecord) -> None:
        """Mark the distillation as finished, so that no trial distills it again."""
        with storage_errors(self.folder):
            write_json(record, self.folder / "distillation.json")
            self.snapshot.unlink(missing_ok=True)
            for stray in self.folder.glob(".*.*"):
                shutil.rmtree(stray, ignore_errors=True)
            for stray in self.work_folder.glob(f".{self.snapshot.name}.*"):
                stray.unlink(missing_ok=True)

    def reset(self) -> None:
        """Remove an unfinished distillation."""
        with storage_errors(self.folder):
            self.snapshot.unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def read_scores(self) -> PartialScores:
        """Read the scores of the unfinished trial."""
        return read_if_valid(PartialScores, self.scores_path) or PartialScores(points={})

    def save_scores(self, scores: PartialScores) -> None:
        """Write the scores of the unfinished trial."""
        with storage_errors(self.scores_path):
            write_json(scores, self.scores_path)
