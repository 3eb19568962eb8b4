"""The search of ``obdbench tune``: candidates are Ray Tune trials, and ASHA stops the poor ones."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from obdbench.execution.executors.ray_tune import (
    TrialProgressCallback,
    capacity,
    cluster,
    resources,
    tune,
)
from obdbench.execution.executors.ray_utils import refuse_index, settle
from obdbench.execution.job import Setup
from obdbench.execution.trial import reason
from obdbench.plugins import Plugin
from obdbench.tuning.api import Search, Tried


def search_with_asha(
    search: Search,
    drawn: list[dict[str, Any]],
    plugins: list[Plugin],
    *,
    address: str | None,
    workers: int | None,
    threads: int,
    device: str,
) -> list[Tried]:
    """Measure candidates, stopping the poor ones early; returns them best first.

    The budget unit of ASHA is a hundredth of a candidate's own evaluation points. A candidate
    counts by its last point, and one that went further comes before one that was stopped. Without
    ``workers`` the whole cluster is used.
    """
    refuse_index(device)
    points = len(search.base().evaluation_steps)
    scheduler = tune.schedulers.ASHAScheduler(
        time_attr="percent",
        metric="criterion",
        mode="min",
        max_t=100,
        grace_period=percent(min(2, points), points),
    )
    setup = Setup(root="", suite="", device=device, threads=threads, plugins=tuple(plugins))
    with cluster(address, (workers or 1) * threads) as folder:
        workers = workers or capacity(setup)
        counter = Counter(len(drawn))
        trainable = tune.with_resources(
            tune.with_parameters(measure_candidate, search=search, setup=setup, drawn=drawn),
            resources(setup, workers),
        )
        grid = tune.Tuner(
            trainable,
            param_space={"candidate": tune.grid_search([*range(len(drawn))]), "home": os.getcwd()},
            tune_config=tune.TuneConfig(
                scheduler=scheduler, reuse_actors=True, max_concurrent_trials=workers
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder / "tune"),
                verbose=0,
                callbacks=[counter],
                failure_config=tune.FailureConfig(max_failures=1),
            ),
        ).fit()
    return ranked([result.metrics for result in grid], drawn)


def percent(point: int, points: int) -> int:
    """How far along the ``point``-th of ``points`` evaluation points is."""
    return max(1, 100 * point // points)


def ranked(
    reports: Sequence[Mapping[str, Any] | None], drawn: Sequence[dict[str, Any]]
) -> list[Tried]:
    """Candidates by their last reports, best first: finite, far along, low."""
    valid = [each for each in reports if each and "criterion" in each and "failed" not in each]
    places = sorted(
        valid,
        key=lambda each: (math.isinf(each["criterion"]), -each["percent"], each["criterion"]),
    )
    return [
        Tried(drawn[each["candidate"]], float(each["criterion"]), int(each["step"]))
        for each in places
    ]


def measure_candidate(
    config: dict[str, Any], *, search: Search, setup: Setup, drawn: list[dict[str, Any]]
) -> None:
    """What a Ray worker does with a candidate."""
    import torch

    from obdbench.execution.job import ready
    from obdbench.tuning.api import Candidate, measure

    settle(config["home"])
    ready(setup)
    torch.set_num_threads(setup.threads)
    index = config["candidate"]
    news = {"criterion": math.inf, "percent": 1, "step": 0, "candidate": index}
    try:
        points = len(Candidate.of(search, drawn[index]).settings.evaluation_steps)
        for point, tried in enumerate(measure(search, drawn[index], setup.device), start=1):
            criterion = tried.criterion if math.isfinite(tried.criterion) else math.inf
            share = {"percent": percent(point, points), "step": tried.step}
            tune.report(news | {"criterion": criterion} | share)
    except Exception as error:
        tune.report(news | {"failed": reason(error)})


class Counter(TrialProgressCallback):  # type: ignore[misc]
    """A line for every candidate that ends."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total
        self.done = 0
        self.best = float("inf")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any
    ) -> None:
        """Follow the best."""
        self.best = min(self.best, result.get("criterion", self.best))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A candidate whose process was lost is left out."""
        self._line("failed (its process was lost)")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A candidate that ran to its end, was stopped, or raised."""
        why = trial.last_result.get("failed")
        self._line(f"failed ({why})" if why else f"step {trial.last_result.get('step')}")

    def _line(self, what: str) -> None:
        self.done += 1
        best = f"best {self.best:.5g}" if math.isfinite(self.best) else "none yet"
        sys.stderr.write(f"tune: {self.done}/{self.total} {what}, {best}\n")
