"""The reference returns that the scores of a record are checked against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from obdbench import register_task
from obdbench.registry import tasks
from obdbench.results.check_scores import find_reference_returns
from obdbench.results.record import Environment


@pytest.fixture
def two_tasks_of_one_environment() -> Iterator[str]:
    register_task("pendulum-a", "Pendulum-v0-test", (-1000.0, -100.0))
    register_task("pendulum-b", "Pendulum-v0-test", (-1200.0, -150.0))
    yield "Pendulum-v0-test"
    tasks.unregister("pendulum-a")
    tasks.unregister("pendulum-b")


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ((-1200.0, -150.0), (-1200.0, -150.0)),
        ((-1000.0, -100.0), (-1000.0, -100.0)),
        ((0.0, 1.0), (-1000.0, -100.0)),
        (None, (-1000.0, -100.0)),
    ],
)
def test_a_record_decides_only_between_registered_references(
    two_tasks_of_one_environment: str,
    recorded: tuple[float, float] | None,
    expected: tuple[float, float],
) -> None:
    environment = Environment(
        env_id=two_tasks_of_one_environment,
        device="cpu",
        threads=1,
        versions={},
        reference_returns=recorded,
    )
    assert find_reference_returns(environment) == expected
