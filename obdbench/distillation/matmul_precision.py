"""How exactly a device multiplies float32 matrices: ``precision`` of the settings.

``float32`` is the full 24 bits; ``tf32`` and ``bfloat16`` let the device round the factors to 11
and 8 bits inside a product, where it can, and add up in float32. Everything that is kept, synsets,
moments and trajectories, stays float32. A device without such products, as most CPUs, ignores it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Products of this precision within the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
