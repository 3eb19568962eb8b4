"""ASHA on Ray Tune: every candidate is a trial of Tune, and poor ones are stopped early."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from obdbench.execution.config import ExecutionConfig
from obdbench.execution.executors.ray_cluster import (
    RunCallback,
    connect,
    enter_working_folder,
    run_tuner,
    tune,
)
from obdbench.execution.job import prepare_process
from obdbench.execution.trial import error_summary
from obdbench.tuning.criterion import CandidateResult, measure_candidate
from obdbench.tuning.search_space import Candidate, SearchConfig

MAX_RESTARTS = 1  # how often a candidate whose process is lost starts again


def search_with_asha(
    search: SearchConfig,
    candidates: Sequence[Candidate],
    config: ExecutionConfig,
) -> list[CandidateResult]:
    """Measure candidates, stopping poor ones early; returns them best first.

    ASHA's unit of budget is a hundredth of a candidate's own evaluation points. A candidate counts
    by its last point, and a candidate with more evaluation points ranks before one that was
    stopped. Without ``workers`` the whole cluster is used.
    """
    points = len(candidates[0].settings.evaluation_steps)
    scheduler = tune.schedulers.ASHAScheduler(
        time_attr="percent",
        metric="criterion",
        mode="min",
        max_t=100,
        grace_period=percent_of_points(min(2, points), points),
    )
    monitor = SearchMonitor(len(candidates))
    with connect(config) as (folder, workers):
        trainable = tune.with_parameters(
            report_candidate, search=search, execution=config, candidates=candidates
        )
        results = run_tuner(
            trainable,
            {"candidate": [*range(len(candidates))]},
            name="tune",
            folder=folder,
            config=config,
            workers=workers,
            callback=monitor,
            max_failures=MAX_RESTARTS,
            scheduler=scheduler,
        )
    return rank_candidates([result.metrics for result in results], candidates)


def percent_of_points(point: int, points: int) -> int:
    """Percentage of a candidate's evaluation points up to the ``point``-th."""
    return max(1, 100 * point // points)


def rank_candidates(
    reports: Sequence[Mapping[str, Any] | None], candidates: Sequence[Candidate]
) -> list[CandidateResult]:
    """Candidates by their last reports: finite ones, then by share of points, then by criterion."""
    valid = [
        report for report in reports if report and "criterion" in report and "error" not in report
    ]
    valid.sort(key=lambda r: (math.isinf(r["criterion"]), -r["percent"], r["criterion"]))
    return [
        CandidateResult(candidates[report["candidate"]], float(report["criterion"]), report["step"])
        for report in valid
    ]


def report_candidate(
    config: dict[str, Any],
    *,
    search: SearchConfig,
    execution: ExecutionConfig,
    candidates: Sequence[Candidate],
) -> None:
    """Measure a candidate in a worker process of Ray, and report each evaluation point."""
    candidate = candidates[config["candidate"]]
    report = {"criterion": math.inf, "percent": 1, "step": 0, "candidate": config["candidate"]}
    try:
        enter_working_folder(config["working_folder"])
        prepare_process(execution)
        torch.set_num_threads(execution.threads)
        points = len(candidate.settings.evaluation_steps)
        measured = measure_candidate(search, candidate, execution.device, execution.memory_bytes)
        for point, result in enumerate(measured, start=1):
            tune.report(
                report
                | {
                    "criterion": result.criterion if math.isfinite(result.criterion) else math.inf,
                    "percent": percent_of_points(point, points),
                    "step": result.step,
                }
            )
    except Exception as error:
        tune.report(report | {"error": error_summary(error)})


class SearchMonitor(RunCallback):
    """Prints a line for every candidate that ends."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.ended = 0
        self.best = math.inf
        self.output = sys.stderr

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Update the best criterion."""
        self.best = min(self.best, result.get("criterion", self.best))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print that a candidate ended with its last report, because its process was lost."""
        self._print_line("failed (its process was lost)")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print the outcome of a candidate that was finished, was stopped or raised an error."""
        error = trial.last_result.get("error")
        self._print_line(f"failed ({error})" if error else f"step {trial.last_result.get('step')}")

    def _print_line(self, outcome: str) -> None:
        self.ended += 1
        best = f"best {self.best:.5g}" if math.isfinite(self.best) else "none yet"
        self.output.write(f"tune: {self.ended}/{self.total} {outcome}, {best}\n")
