"""Recorded calls: what comes back where recording fails. That it works takes a GPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.cuda_graphs import CudaGraphFunction


def test_after_a_failed_recording_the_state_is_that_of_a_plain_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A function leaves something behind for the next; recording may have spoilt it."""
    left: list[float] = []

    def remembers(value: Tensor) -> list[Tensor]:
        left[:] = [float(value)]
        return [value + 1]

    def spoils(self: CudaGraphFunction, inputs: Sequence[Tensor]) -> None:
        left[:] = [float("nan")]
        raise RuntimeError("no graph today\nand more")

    monkeypatch.setattr(CudaGraphFunction, "_record", spoils)
    call = CudaGraphFunction(remembers)
    with caplog.at_level(logging.WARNING):
        (found,) = call._first([torch.tensor(3.0)])
    assert float(found) == 4.0
    assert left == [3.0]
    assert call.failed
    assert [record.message for record in caplog.records] == [
        "CUDA graphs are not used: no graph today"
    ]
