"""Onto the device: the CPU's bits, and on a GPU a copy that nobody waits for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from obdbench.policies.device import to_device


def test_on_the_cpu_nothing_is_copied() -> None:
    drawn = torch.randn(3)
    assert to_device(drawn, "cpu") is drawn
    assert to_device(drawn, torch.device("cpu"), torch.float32) is drawn
    assert torch.equal(to_device(drawn, "cpu", torch.float64), drawn.double())


def test_to_a_gpu_it_goes_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: which calls are made, in which order."""
    calls: list[Any] = []

    def pinned(self: Tensor) -> Tensor:
        calls.append(("pin", self.dtype))
        return self

    def moved(self: Tensor, *arguments: Any, **options: Any) -> Tensor:
        calls.append((*arguments, options.get("non_blocking", False)))
        return self.type(arguments[0]) if isinstance(arguments[0], torch.dtype) else self

    monkeypatch.setattr(Tensor, "pin_memory", pinned)
    monkeypatch.setattr(Tensor, "to", moved)
    to_device(torch.zeros(2), "cuda", torch.float64)
    assert calls == [(torch.float64, False), ("pin", torch.float64), ("cuda", True)]
    calls.clear()
    to_device(torch.zeros(2, dtype=torch.int64), torch.device("cuda:1"))
    assert calls[1:] == [("pin", torch.int64), (torch.device("cuda:1"), True)]
