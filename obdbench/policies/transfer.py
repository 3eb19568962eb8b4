"""Tensors onto the device, without waiting for it.

Generators live on the CPU, so that a device changes no stream; what they draw has to travel. A copy
from ordinary memory makes the host wait, one from pinned memory does not. PyTorch's allocator of
pinned memory gives a block away again only once the copies from it are done, so nothing has to be
kept alive here.
"""

from __future__ import annotations

import torch
from torch import Tensor


def onto(drawn: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on the device, of this type or its own."""
    dtype = drawn.dtype if dtype is None else dtype
    if torch.device(device).type != "cuda" or drawn.is_cuda:
        return drawn.to(device, dtype)
    return drawn.to(dtype).pin_memory().to(device, non_blocking=True)
