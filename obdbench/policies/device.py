"""Checks of devices and seeds, and copies of CPU tensors to a device that do not block the host.

Random generators live on the CPU, so that the device does not change the random streams, and the
drawn numbers are copied to the device. A copy from pageable memory blocks the host; a copy from
pinned memory does not. PyTorch's caching allocator reuses a pinned block only after the copies from
it have finished, so the caller keeps no reference.
"""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from obdbench.errors import InvalidSettingError, ObdError, first_line


def to_device(
    tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None
) -> Tensor:
    """Copy the tensor to the device, cast to ``dtype`` if given."""
    dtype = tensor.dtype if dtype is None else dtype
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device, dtype)
    return tensor.to(dtype).pin_memory().to(device, non_blocking=True)


def check_device(device: str) -> None:
    """Raise an error if a device does not exist on this machine."""
    if device == "cpu":
        return
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise InvalidSettingError(f"{device!r} is not a device.", "Use cpu, cuda or cuda:N.")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ObdError(
            f"The device {device!r} cannot be used: {first_line(error)}.",
            "Use --device cpu.",
        ) from error


def check_seed(seed: int) -> None:
    """Raise an error unless a seed is an integer that is not negative."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise InvalidSettingError(f"The seed is {seed!r}.", "Give 0 or a positive integer.")
