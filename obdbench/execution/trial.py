"""One trial from its spec to its result.

A trial distills unless its synsets exist, scores them at the points its protocol selects, and
always writes a record: a failure is a result with its reason. Equal specs give equal records,
``timing`` excepted, however often the trial was interrupted.
"""

from __future__ import annotations

import math
import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.distillation.initialization import needs_teacher
from obdbench.distillation.loop import EvaluationPoint, Progress, distill_points
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidDataError, ObdError, first_line
from obdbench.evaluation.protocol import make_protocol
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import Event, EventHandler, ignore_event
from obdbench.execution.memory import release_free_memory
from obdbench.experiments.spec import TrialSpec
from obdbench.objectives.objective import Objective, make_objective
from obdbench.results.headline import mean_headline_score
from obdbench.results.provenance import describe_environment
from obdbench.results.record import (
    DataIdentity,
    Point,
    Result,
    Status,
    StudentCheckRecord,
    Timing,
    utc_now,
)
from obdbench.results.store import ResultStore, StorageError, find_disk_error
from obdbench.results.synset_store import DistillationRecord, PartialScores, SynsetStore
from obdbench.teachers.loading import load_teacher
from obdbench.teachers.teacher import Teacher

TIMEOUT_EXIT = 75


class TrialTimeoutError(ObdError):
    """The trial used up its time."""


class DivergedError(ObdError):
    """The distillation produced a loss that is not finite."""


def run_trial(
    spec: TrialSpec,
    store: ResultStore,
    config: ExecutionConfig | None = None,
    on_event: EventHandler = ignore_event,
    *,
    exit_on_hang: bool = False,
) -> Result:
    """Run a trial that has no good result yet, store its result and return it.

    Exceptions of the trial become a failed result. Only a store that cannot be written
    (:class:`StorageError`) and interrupts are raised. The time limit begins once no other process
    works on the same distillation; a good result that such a process has written is returned. With
    ``exit_on_hang`` the process exits if the trial is still running ``grace`` seconds after the
    limit.
    """
    config = config or ExecutionConfig()
    synsets = SynsetStore(store, spec)
    started = utc_now()
    on_event(Event("start", spec.key, steps=spec.settings.steps))
    try:
        with _torch_settings(config.threads), synsets.lock():
            result = store.read_result(spec.key)
            if result is None or result.status != "ok":
                with _exit_timer(spec, store, config) if exit_on_hang else nullcontext():
                    result = _TrialRun(spec, synsets, config, on_event).run(store.suite, started)
                store.save(result)
                synsets.scores_path.unlink(missing_ok=True)  # the result contains them
    except StorageError:
        raise
    except Exception as error:
        if (refusal := find_disk_error(error, store.folder)) is not None:
            raise StorageError(refusal.filename or store.folder, refusal) from error
        status: Status = "timeout" if isinstance(error, TrialTimeoutError) else "failed"
        result = Result.unfinished(spec, store.suite, status, error_summary(error), started)
        store.save(result, traceback.format_exc())
    score = mean_headline_score(result)
    on_event(Event(result.status, spec.key, score=score, message=result.error or ""))
    return result


def error_summary(error: BaseException) -> str:
    """Describe an exception in one line."""
    if isinstance(error, ObdError):
        return str(error)
    first = first_line(error)
    if isinstance(error, MemoryError) or "out of memory" in first or "allocate memory" in first:
        return f"out of memory: {first or 'allocation failed'}"
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def exit_with_timeout(spec: TrialSpec, store: ResultStore, timeout: float) -> None:
    """End this process, leaving a timeout result behind unless a good one exists."""
    message = f"The trial took longer than {timeout:g} s and did not respond."
    try:
        result = store.read_result(spec.key)
        if result is None or result.status != "ok":
            store.save(Result.unfinished(spec, store.suite, "timeout", message))
    except StorageError:
        pass
    finally:
        os._exit(TIMEOUT_EXIT)


def check_size(dataset: Dataset, pairs: int) -> None:
    """Raise an error if a dataset has fewer transitions than the synset has pairs."""
    if pairs > len(dataset):
        raise InvalidDataError(
            f"{dataset.id} has {len(dataset)} transitions, fewer than the {pairs} pairs asked for.",
            "Ask for fewer with --set pairs=N.",
        )


class _TrialRun:
    """The state of one run of one trial."""

    def __init__(
        self,
        spec: TrialSpec,
        synsets: SynsetStore,
        config: ExecutionConfig,
        on_event: EventHandler,
    ) -> None:
        self.spec = spec
        self.synsets = synsets
        self.config = config
        self.on_event = on_event
        self.deadline = None if config.timeout is None else time.monotonic() + config.timeout
        self.protocol = make_protocol(spec.protocol, spec.protocol_params)
        partial = synsets.read_scores()  # of an earlier process that was interrupted
        self.points: dict[int, list[Point]] = dict(partial.points)
        self.seconds = partial.seconds

    def run(self, suite: str, started: str) -> Result:
        """Distill and score whatever is missing, and return the result."""
        record, distill_seconds = self.synsets.read_record(), 0.0
        if record is None:
            record = self.distill()
            distill_seconds = record.seconds
        selected = sorted(self.protocol.select(record.steps))
        for step in selected:
            if step not in self.points:
                self.score(step, self.synsets.load_synsets(step))
        return Result(
            key=self.spec.key,
            suite=suite,
            spec=self.spec,
            status="ok",
            points=[point for step in selected for point in self.points[step]],
            losses=record.losses,
            student_checks=record.student_checks,
            infinite_width_ended_at=record.infinite_width_ended_at,
            timing=Timing(
                started=started,
                distill=distill_seconds,
                prepare=record.prepare,
                evaluate=self.seconds,
                curve=record.curve,
            ),
            environment=describe_environment(
                record.env_id, self.config.device, self.config.threads, record.reference_returns
            ),
            dataset=record.dataset,
            teacher=record.teacher,
        )

    def distill(self) -> DistillationRecord:
        """Distill, continuing from the last snapshot; again from the start if it is incomplete."""
        record = self._distill_once()
        if record is None:
            self.synsets.reset()  # the snapshot exists but its synsets were removed
            record = self._distill_once()
        if record is None:
            raise InvalidDataError(
                "The distillation did not yield its evaluation points.", "Run it with --fresh."
            )
        self.synsets.save_record(record)
        return record

    def _distill_once(self) -> DistillationRecord | None:
        """Distill, and score each evaluation point when it is reached.

        Returns None if synsets of earlier points are missing.
        """
        started = time.monotonic()
        dataset, objective, teacher = self._load_inputs()
        inline = set(self.protocol.select(self.spec.settings.evaluation_steps))
        curve: list[tuple[int, float]] = []
        prepare, point = 0.0, None
        for point in distill_points(
            dataset,
            teacher,
            objective,
            self.spec.settings,
            list(self.spec.seeds),
            snapshot=self.synsets.snapshot,
            snapshot_seconds=self.config.snapshot_seconds,
            progress=self._report_step,
            device=self.config.device,
            memory=self.config.memory_bytes,
        ):
            _check_losses(point)
            if not curve:  # loading and preparing end with the first point
                prepare = time.monotonic() - started
                release_free_memory()
            self.synsets.save_synsets(point.step, point.synsets)
            curve.append((point.step, point.seconds))
            if point.step in inline and point.step not in self.points:
                self.score(point.step, point.synsets)
        if point is None or not self._expected_steps(point.step) <= set(
            self.synsets.complete_steps()
        ):
            return None
        seeds = list(map(str, self.spec.seeds))
        return DistillationRecord(
            steps=sorted(self._expected_steps(point.step)),
            losses=dict(zip(seeds, point.losses, strict=True)),
            student_checks={
                seed: [StudentCheckRecord.model_validate(check.as_json()) for check in checks]
                for seed, checks in zip(seeds, point.checks, strict=False)
            },
            infinite_width_ended_at={seeds[index]: step for index, step in point.ended.items()},
            seconds=point.seconds,
            prepare=prepare,
            curve=curve,
            env_id=dataset.task.env_id,
            reference_returns=dataset.task.reference_returns,
            dataset=DataIdentity(id=dataset.id, checksum=dataset.checksum, size=len(dataset)),
            teacher=DataIdentity(id=teacher.id, checksum=teacher.checksum) if teacher else None,
        )

    def _load_inputs(self) -> tuple[Dataset, Objective, Teacher | None]:
        dataset = load_dataset(self.spec.dataset)
        check_size(dataset, self.spec.settings.pairs)
        objective = make_objective(self.spec.objective, self.spec.objective_params)
        teacher = (
            load_teacher(self.spec.dataset, self.spec.teacher)
            if needs_teacher(objective, self.spec.settings)
            else None
        )
        if teacher is not None and self.spec.teacher_checksum not in (None, teacher.checksum):
            raise InvalidDataError(
                f"The teacher {self.spec.teacher!r} has changed since the run was planned.",
                "Run the same command again; a changed teacher makes another trial.",
            )
        return dataset, objective, teacher

    def _expected_steps(self, last: int) -> set[int]:
        """Evaluation points of a finished distillation; one that takes no steps has only 0."""
        return set(self.spec.settings.evaluation_steps) if last > 0 else {0}

    def _report_step(self, progress: Progress) -> None:
        self._check_time()
        loss, missed = float(progress.loss), progress.missed_variance
        self.on_event(
            Event(
                "step",
                self.spec.key,
                step=progress.step,
                steps=progress.steps,
                loss=loss if math.isfinite(loss) else None,
                steps_per_second=progress.steps_per_second,
                missed_variance=missed if missed is not None and math.isfinite(missed) else None,
            )
        )

    def _check_time(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TrialTimeoutError(
                f"The trial took longer than {self.config.timeout:g} s.", "Raise --timeout."
            )

    def score(self, step: int, synsets: Sequence[Synset]) -> None:
        """Score the synsets of one evaluation point, and store the scores."""
        self._check_time()
        self.on_event(Event("scoring", self.spec.key, step=step))
        started = time.monotonic()
        scores = self.protocol.score(synsets, self.spec.settings, list(self.spec.seeds))
        seconds = time.monotonic() - started
        self.seconds += seconds
        self.points[step] = [
            Point(
                seed=score.seed,
                step=step,
                arm=score.arm,
                returns=score.returns,
                normalized_return=score.normalized_return,
            )
            for score in sorted(scores, key=lambda score: (score.arm, score.seed))
        ]
        self.synsets.save_scores(PartialScores(points=self.points, seconds=self.seconds))
        release_free_memory()
        mean = sum(score.normalized_return for score in scores) / max(1, len(scores))
        self.on_event(Event("score", self.spec.key, step=step, score=mean, seconds=seconds))


def _check_losses(point: EvaluationPoint) -> None:
    if not all(math.isfinite(loss) for curve in point.losses for _, loss in curve):
        raise DivergedError(
            f"The distillation diverged before step {point.step}: its loss is not finite.",
            "Lower outer_lr or inner_lr, or set clip.",
        )


@contextmanager
def _exit_timer(spec: TrialSpec, store: ResultStore, config: ExecutionConfig) -> Iterator[None]:
    """Exit the process if the block takes ``grace`` seconds longer than the timeout."""
    if config.timeout is None:
        yield
        return
    arguments = (spec, store, config.timeout)
    timer = threading.Timer(config.timeout + config.grace, exit_with_timeout, arguments)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _torch_settings(threads: int) -> Iterator[None]:
    """Fix the number of threads, use deterministic algorithms, and restore both afterwards."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("warn")  # does not import a compiler, unlike the other call
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
