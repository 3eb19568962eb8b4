"""Precision of float32 matrix products.

``float32`` uses all 24 bits of the significand. ``tf32`` and ``bfloat16`` allow a device to round
the factors of a product to 11 and 8 bits and to accumulate in float32. Synsets, optimizer moments
and trajectories are stored in float32 in every case. Devices without such products, which includes
most CPUs, compute in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set the precision of matrix products within a block and restore it afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
