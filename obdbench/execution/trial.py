"""One trial from its spec to its result.

A trial distils unless its synsets are there, scores them at the points its protocol asks for, and
always leaves a record: a failure is a row with its reason. Equal specs give equal records but for
``timing``, however often the trial was interrupted.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from obdbench.errors import InvalidDataError, ObdError
from obdbench.execution.events import Emit, Event
from obdbench.execution.memory import trim
from obdbench.experiments.spec import TrialSpec
from obdbench.results.headline import mean_headline
from obdbench.results.provenance import environment
from obdbench.results.record import Point, Result, Source, Timing
from obdbench.results.store import ResultStore, StorageError, refused
from obdbench.results.synset_store import DistillationRecord, PartialScores, SynsetStore

if TYPE_CHECKING:
    from obdbench.evaluation.protocol import Protocol

SNAPSHOT_SECONDS = 60.0


class TrialTimeoutError(ObdError):
    """The trial used up its time."""


class DivergedError(ObdError):
    """The distillation produced a loss that is not finite."""


def run_trial(
    spec: TrialSpec,
    store: ResultStore,
    *,
    suite: str | None = None,
    progress: Emit | None = None,
    device: str = "cpu",
    threads: int = 1,
    memory: float = 2.0,
    timeout: float | None = None,
    snapshot_seconds: float = SNAPSHOT_SECONDS,
    guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    reuse: bool = False,
) -> Result:
    """Run a trial and store its result, which is returned; whatever it raises becomes a row.

    The trial's time, and ``guard`` around it, begin once no other process works on the same
    distillation. With ``reuse`` a good result that such a process has left meanwhile is taken.
    Only a store that cannot be written (:class:`StorageError`) and interrupts are raised.
    """
    emit = progress or (lambda event: None)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    emit(Event("start", spec.key, steps=spec.settings.steps))
    name, log = suite or store.suite, None
    try:
        with _torch(threads), SynsetStore(store, spec).lock(), guard():
            held = store.result(spec.key) if reuse else None
            if held is not None and held.status == "ok":
                emit(Event("ok", spec.key, score=mean_headline(held)))
                return held
            run = _Run(spec, store, emit, device, threads, memory, timeout, snapshot_seconds)
            result = run.result(name, started)
    except StorageError:
        raise
    except Exception as error:
        if (refusal := refused(error, store.folder)) is not None:
            raise StorageError(store.folder, refusal) from error
        status = "timeout" if isinstance(error, TrialTimeoutError) else "failed"
        log = traceback.format_exc()
        result = unfinished(spec, name, status, reason(error), started)
    store.save(result, log)
    if result.status == "ok":
        SynsetStore(store, spec).drop_scores()
    emit(Event(result.status, spec.key, score=mean_headline(result), message=result.error or ""))
    return result


def unfinished(
    spec: TrialSpec, suite: str, status: Any, error: str, started: str | None = None
) -> Result:
    """The row of a trial that has no scores."""
    started = started or datetime.now(UTC).isoformat(timespec="seconds")
    timing = Timing(started=started)
    return Result(key=spec.key, suite=suite, spec=spec, status=status, error=error, timing=timing)


def reason(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, ObdError):
        return str(error)
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "out of memory" in first or "allocate memory" in first:
        return f"out of memory: {first or 'allocation failed'}"
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


class _Run:
    """The state of one run of one trial."""

    def __init__(
        self,
        spec: TrialSpec,
        store: ResultStore,
        emit: Emit,
        device: str,
        threads: int,
        memory: float,
        timeout: float | None,
        snapshot_seconds: float,
    ) -> None:
        from obdbench.evaluation.protocol import make_protocol

        self.spec = spec
        self.emit = emit
        self.device = device
        self.threads = threads
        self.memory = round(memory * 2**30)
        self.timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.snapshot_seconds = snapshot_seconds
        self.folder = SynsetStore(store, spec)
        self.protocol: Protocol = make_protocol(spec.protocol, spec.protocol_params)
        kept = self.folder.scores()
        self.points: dict[int, list[Point]] = dict(kept.points)
        self.seconds = kept.seconds

    def result(self, suite: str, started: str) -> Result:
        record, distilled = self.folder.record(), 0.0
        if record is None:
            record = self.distil()
            distilled = record.seconds
        selected = self.protocol.select(record.steps)
        for step in selected:
            if step not in self.points:
                self.score(step)
        points = [point for step in sorted(selected) for point in self.points[step]]
        return Result(
            key=self.spec.key,
            suite=suite,
            spec=self.spec,
            status="ok",
            points=points,
            losses=record.losses,
            timing=Timing(
                started=started,
                distill=distilled,
                step=record.step_seconds,
                prepare=record.prepare,
                evaluate=self.seconds,
                curve=record.curve,
            ),
            environment=environment(self.env_id(record), self.device, self.threads),
            dataset=record.dataset,
            teacher=record.teacher,
        )

    def distil(self, again: bool = False) -> DistillationRecord:
        """Distil from the last snapshot on, scoring on the way."""
        from obdbench.datasets.loading import load_dataset
        from obdbench.distillation.loop import distill_points
        from obdbench.objectives.objective import make_objective
        from obdbench.teachers.loading import load_teacher

        began = time.monotonic()
        settings = self.spec.settings
        dataset = load_dataset(self.spec.dataset)
        if settings.pairs > len(dataset):
            raise InvalidDataError(
                f"{self.spec.dataset} holds {len(dataset)} transitions, fewer than the "
                f"{settings.pairs} pairs asked for.",
                "Ask for fewer pairs.",
            )
        objective = make_objective(self.spec.objective, self.spec.objective_params)
        needed = objective.uses_teacher or settings.init == "top-q"
        teacher = load_teacher(self.spec.dataset) if needed else None
        inline = set(self.protocol.select(settings.evaluation_steps))
        curve: list[tuple[int, float]] = []
        point, prepare = None, 0.0
        for point in distill_points(
            dataset,
            teacher,
            objective,
            settings,
            list(self.spec.seeds),
            snapshot=self.folder.snapshot,
            snapshot_seconds=self.snapshot_seconds,
            progress=self.on_progress,
            device=self.device,
            memory=self.memory,
        ):
            if not all(math.isfinite(loss) for seed in point.losses for _, loss in seed):
                raise DivergedError(
                    f"The distillation diverged before step {point.step}: its loss is not finite.",
                    "Lower outer_lr or inner_lr, or set clip.",
                )
            if not curve:  # loading and preparing end where the first point comes
                prepare = time.monotonic() - began
                trim()
            self.folder.keep(point.step, point.synsets)
            curve.append((point.step, point.seconds))
            if point.step in inline and point.step not in self.points:
                self.score(point.step)
        if point is None or not self._expected(point.step) <= set(self.folder.steps()):
            if again:
                raise InvalidDataError(
                    "The distillation did not yield its evaluation points.", "Run it --fresh."
                )
            self.folder.restart()  # a snapshot whose synsets were removed
            return self.distil(again=True)
        record = DistillationRecord(
            steps=sorted(self._expected(point.step)),
            losses={
                str(seed): losses
                for seed, losses in zip(self.spec.seeds, point.losses, strict=True)
            },
            seconds=point.seconds,
            step_seconds=point.step_seconds,
            prepare=prepare,
            curve=curve,
            dataset=Source(id=dataset.id, checksum=dataset.checksum, size=len(dataset)),
            teacher=Source(id=teacher.id, checksum=teacher.checksum) if teacher else None,
        )
        self.folder.finish(record)
        return record

    def _expected(self, last: int) -> set[int]:
        """Evaluation points of a distillation that ended; one that takes no steps has one."""
        return set(self.spec.settings.evaluation_steps) if last > 0 else {0}

    def on_progress(self, news: Any) -> None:
        self.check_time()
        loss = float(news.loss)
        self.emit(
            Event(
                "step",
                self.spec.key,
                step=news.step,
                steps=news.steps,
                loss=loss if math.isfinite(loss) else None,
                rate=news.steps_per_second,
            )
        )

    def env_id(self, record: DistillationRecord) -> str:
        return self.folder.load(record.steps[-1])[0].task.env_id

    def check_time(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TrialTimeoutError(
                f"The trial took longer than {self.timeout:g} s.", "Raise --timeout."
            )

    def score(self, step: int) -> None:
        """Score the synsets of one evaluation point, and keep the scores."""
        self.check_time()
        began = time.monotonic()
        scored = self.protocol.score(
            self.folder.load(step), self.spec.settings, list(self.spec.seeds)
        )
        self.seconds += time.monotonic() - began
        self.points[step] = [
            Point(
                seed=one.seed,
                step=step,
                arm=one.arm,
                returns=one.returns,
                normalized_return=one.normalized_return,
            )
            for one in sorted(scored, key=lambda one: (one.arm, one.seed))
        ]
        self.folder.keep_scores(PartialScores(points=self.points, seconds=self.seconds))
        trim()
        mean = sum(one.normalized_return for one in scored) / max(1, len(scored))
        self.emit(Event("score", self.spec.key, step=step, score=mean))


@contextmanager
def _torch(threads: int) -> Iterator[None]:
    """Fixed threads and deterministic algorithms, put back afterwards."""
    import torch

    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("warn")  # without importing a compiler, unlike its kin
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
