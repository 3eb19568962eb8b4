"""Functions replayed from CUDA graphs: their outputs if recording fails, without a GPU."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from obdbench.distillation.meta_gradient import cuda_graphs
from obdbench.distillation.meta_gradient.cuda_graphs import CudaGraphFunction


def test_failed_recording_falls_back_to_a_plain_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The function is called again because recording may have overwritten its side effects."""
    side_effect: list[float] = []

    def function(value: Tensor) -> list[Tensor]:
        side_effect[:] = [float(value)]
        return [value + 1]

    def fail_to_record(*_: Any) -> Any:
        side_effect[:] = [float("nan")]
        raise RuntimeError("no graph today\nand more")

    monkeypatch.setattr(cuda_graphs, "record_graph", fail_to_record)
    replayed = CudaGraphFunction(function)
    with caplog.at_level(logging.WARNING):
        (output,) = replayed.call_and_record([torch.tensor(3.0)])
    assert float(output) == 4.0
    assert side_effect == [3.0]
    assert replayed.failed
    assert [record.message for record in caplog.records] == [
        "CUDA graphs are not used: no graph today"
    ]
