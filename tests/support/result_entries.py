"""Result entries with given scores, for tests of reports."""

from __future__ import annotations

from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.suite_results import ResultEntry
from obdbench.results.record import Result

TWO = HOPPER, WALKER = "d4rl/hopper-medium-v2", "d4rl/walker2d-medium-v2"


def entry(
    objective: str, scores: dict[int, float], dataset: str = HOPPER, **more: object
) -> ResultEntry:
    spec = TrialSpec(objective=objective, dataset=dataset, seeds=tuple(scores), **more)
    record = Result(key=spec.key, suite="s", spec=spec, status="ok")
    curves = {"default": {seed: ((0, score),) for seed, score in scores.items()}}
    return ResultEntry(f"{spec.key}.json", record, curves)
