"""Copies of CPU tensors to a device that do not block the host.

Random generators live on the CPU, so that the device does not change the random streams, and the
drawn numbers are copied to the device. A copy from pageable memory blocks the host; a copy from
pinned memory does not. PyTorch's caching allocator reuses a pinned block only after the copies from
it have finished, so the caller keeps no reference.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(
    tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None
) -> Tensor:
    """Copy the tensor to the device, cast to ``dtype`` if given."""
    dtype = tensor.dtype if dtype is None else dtype
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device, dtype)
    return tensor.to(dtype).pin_memory().to(device, non_blocking=True)
