"""What one distillation leaves on disk: synsets at each evaluation point, shared by protocols.

``synsets/<distill_key>/<step>/seed<seed>.safetensors`` with a card each, a step's folder appearing
at once when it is complete, and ``distillation.json`` once all of them are there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidDataError
from obdbench.experiments.spec import TrialSpec
from obdbench.io import sync
from obdbench.results.record import Point, Source, read_json, write_json
from obdbench.results.store import ResultStore, storage

if TYPE_CHECKING:
    from obdbench.distillation.synset import Synset


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DistillationRecord(_Part):
    """A finished distillation."""

    schema_version: Literal[1] = 1
    steps: list[int]  # evaluation points that are kept
    losses: dict[str, list[tuple[int, float]]] = Field(default_factory=dict)  # per seed
    seconds: float = 0.0  # distilling, all seeds
    step_seconds: float = 0.0  # median outer step
    prepare: float = 0.0  # objective's preparation
    curve: list[tuple[int, float]] = Field(default_factory=list)  # (step, seconds)
    env_id: str  # gymnasium identifier of the task's environment
    dataset: Source
    teacher: Source | None = None


class PartialScores(_Part):
    """Scores of a trial that is not finished."""

    schema_version: Literal[1] = 1
    points: dict[int, list[Point]]  # by step
    seconds: float = 0.0


class SynsetStore:
    """The folder of one distillation in a store."""

    def __init__(self, store: ResultStore, spec: TrialSpec) -> None:
        self.store, self.seeds = store, spec.seeds
        self.folder = store.folder / "synsets" / spec.distill_key
        self.work = store.work / spec.distill_key
        self._partial = self.work / f"scores-{spec.key}.json"

    @property
    def snapshot(self) -> Path:
        """State of the loop from which distilling goes on."""
        return self.work / "snapshot"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from working on the same distillation."""
        with self.store.lock(self.work.name):
            yield

    def record(self) -> DistillationRecord | None:
        """The record, if the distillation is finished and all its synsets are there."""
        path = self.folder / "distillation.json"
        if not path.is_file():
            return None
        try:
            record = read_json(DistillationRecord, path)
        except InvalidDataError:
            return None
        return record if set(record.steps) <= set(self.steps()) else None

    def steps(self) -> list[int]:
        """Evaluation points of which every seed's synset is there."""
        if not self.folder.is_dir():
            return []
        steps = sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())
        return [s for s in steps if all(self.path(s, seed).is_file() for seed in self.seeds)]

    def path(self, step: int, seed: int) -> Path:
        """Where a synset lies."""
        return self.folder / str(step) / f"seed{seed}.safetensors"

    def keep(self, step: int, synsets: list[Synset]) -> None:
        """Write the synsets of all seeds at one evaluation point."""
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".{step}."))
            try:
                temporary.chmod(0o755)
                for seed, synset in zip(self.seeds, synsets, strict=True):
                    synset.save(temporary / f"seed{seed}.safetensors")
                for file in (*temporary.iterdir(), temporary):
                    sync(file)
                final = self.folder / str(step)
                if final.exists():
                    shutil.rmtree(final)
                os.replace(temporary, final)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    def load(self, step: int) -> list[Synset]:
        """The synsets of all seeds at one evaluation point."""
        return [Synset.load(self.path(step, seed)) for seed in self.seeds]

    def finish(self, record: DistillationRecord) -> None:
        """Mark it as finished; from now on no trial distils it again."""
        with storage(self.folder):
            write_json(record, self.folder / "distillation.json")
            self.snapshot.unlink(missing_ok=True)
            for stray in self.folder.glob(".*.*"):
                shutil.rmtree(stray, ignore_errors=True)
            for stray in self.work.glob(f".{self.snapshot.name}.*"):
                stray.unlink(missing_ok=True)

    def restart(self) -> None:
        """Forget an unfinished distillation."""
        with storage(self.folder):
            self.snapshot.unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def scores(self) -> PartialScores:
        """Scores kept so far for this trial."""
        try:
            if self._partial.is_file():
                return read_json(PartialScores, self._partial)
        except InvalidDataError:
            pass
        return PartialScores(points={})

    def keep_scores(self, scores: PartialScores) -> None:
        """Keep scores of an unfinished trial."""
        with storage(self._partial):
            write_json(scores, self._partial)

    def drop_scores(self) -> None:
        """The trial is finished: its result holds the scores."""
        self._partial.unlink(missing_ok=True)
