"""Settings of PyTorch's arithmetic within a block: precision of products, and threads.

``tf32`` and ``bfloat16`` allow a device to round the factors of a product to 11 and 8 bits of the
significand and to accumulate in float32. Results are stored in float32 in every case. Devices
without such products compute in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set the precision of PyTorch's matrix products within a block and restore it afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit PyTorch to one thread within the block, so that equal calls give equal bits.

    With several threads PyTorch splits matrix products differently, and sums round differently.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def has_bfloat16_products() -> bool:
    """Whether the processor has instructions for matrix products of ``bfloat16`` factors.

    These are AVX512_BF16 and AMX; without them such products are slower than those of ``float32``.
    """
    return any(
        bool(getattr(torch.cpu, name, bool)())
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
