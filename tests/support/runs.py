"""Run a suite in one call."""

from __future__ import annotations

from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import RunSummary, execute, plan, plan_missing
from obdbench.experiments.suite import Suite
from obdbench.results.record import Result


def run(suite: Suite | str, config: ExecutionConfig) -> RunSummary:
    """Plan and execute."""
    return execute(plan(suite, config))


def collect(suite: Suite, config: ExecutionConfig) -> tuple[list[Result], RunSummary | None]:
    """The good results of a suite's trials from any suite, and the summary of the others' run."""
    good, missing = plan_missing(suite, config)
    if not missing.specs:
        return good, None
    summary = execute(missing)
    return [*good, *(r for r in summary.results.values() if r.status == "ok")], summary
