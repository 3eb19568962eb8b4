"""The solvers of the two phases."""

from __future__ import annotations

import logging

import pytest

from obdbench.distillation.phase_solvers import warn_kernel_mismatch
from obdbench.distillation.settings import resolve_settings


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({"kernel_share": 0.5}, "50%"),
        ({"solver": "corrected"}, "100%"),
        ({"solver": "label-solving"}, "100%"),
        ({}, None),
    ],
)
def test_students_of_another_limit_are_a_warning(
    caplog: pytest.LogCaptureFixture, settings: dict[str, object], share: str | None
) -> None:
    with caplog.at_level(logging.WARNING):
        for architecture in ("mlp3", "residual"):
            changes = {"kernel_share": 0.0, "architecture": architecture, **settings}
            warn_kernel_mismatch(resolve_settings("fast", changes))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (share is not None)
    assert all(text.startswith(str(share)) and "residual" in text for text in warnings)
