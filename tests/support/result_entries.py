"""Result entries with given scores, for tests of reports."""

from __future__ import annotations

from dataclasses import replace

from obdbench.distillation.settings import DistillSettings
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grids.suite_results import ResultEntry
from obdbench.results.record import DataIdentity, Result, StudentCheckRecord

TWO = HOPPER, WALKER = "d4rl/hopper-medium-v2", "d4rl/walker2d-medium-v2"


def entry(
    objective: str,
    scores: dict[int, float],
    dataset: str = HOPPER,
    *,
    start: float | None = None,
    teacher_checksum: str | None = None,
    **more: object,
) -> ResultEntry:
    """A result with these scores: at step 0, or at step 9 where ``start`` is the score of step 0.

    ``teacher_checksum`` is that of the teacher.
    """
    spec = TrialSpec(objective=objective, dataset=dataset, seeds=tuple(scores), **more)
    checksum = teacher_checksum
    taught = None if checksum is None else DataIdentity(id="teacher", checksum=checksum)
    record = Result(key=spec.key, suite="s", spec=spec, status="ok", teacher=taught)
    curves = {
        "default": {
            seed: ((0, score),) if start is None else ((0, start), (9, score))
            for seed, score in scores.items()
        }
    }
    return ResultEntry(f"{spec.key}.json", record, curves)


def checked_entry(objective: str, missed: dict[int, list[float | None]]) -> ResultEntry:
    """An entry with the missed variance of each seed at the steps 0, 10, 20, and so on."""
    settings = DistillSettings(guard_interval=10)
    unchecked = entry(objective, dict.fromkeys(missed, 1.0), settings=settings)
    checks = {
        str(seed): [
            StudentCheckRecord(step=10 * i, missed_variance=share, missed_objective=share)
            for i, share in enumerate(shares)
        ]
        for seed, shares in missed.items()
    }
    record = unchecked.record.model_copy(update={"student_checks": checks})
    curves = {"default": dict.fromkeys(missed, ((0, 1.0), (20, 30.0)))}
    return replace(unchecked, record=record, curves=curves)
