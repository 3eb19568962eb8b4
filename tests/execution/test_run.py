"""Checks before a run."""

import logging

import pytest

from obdbench.execution.run import warn_kernel_mismatch
from obdbench.experiments.suite import Suite


def specs(**settings):
    return Suite(
        name="mine",
        datasets=("embedded/hopper-medium-v0",),
        objectives=["random", "pbc"],
        settings=settings,
    ).specs()


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({}, 0),
        ({"architecture": "residual", "kernel_share": 0}, 0),
        ({"architecture": "residual"}, 1),
    ],
)
def test_infinite_width_steps_of_another_architecture_are_warned_of(caplog, settings, warnings):
    warn_kernel_mismatch(specs(**settings))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warnings
    assert ("residual" in caplog.text) == bool(warnings)
