"""Runs without worker processes, each of which imports torch for two seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from obdbench.execution import run as execution
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import EventHandler
from obdbench.execution.executors.base import Executor, RunEvents
from obdbench.execution.job import Job, run_job


def execute_in_process(
    jobs: Sequence[Job],
    config: ExecutionConfig,
    on_event: EventHandler,
    refresh: Callable[[], None],
) -> None:
    """The executor ``local`` in this process."""
    for job in jobs:
        events = RunEvents(config, job.open_store(config), on_event)
        run_job(job, config, events.forward)


get_executor = execution.get_executor


def select_executor(name: str) -> Executor:
    """The usual executor, except that ``local`` starts no processes."""
    return execute_in_process if name == "local" else get_executor(name)


def start_no_workers() -> None:
    """Let the runs of this process use :func:`select_executor`."""
    execution.get_executor = select_executor
