"""The error for a memory limit that is too small for one outer step."""

from __future__ import annotations

import math

from obdbench.errors import InvalidSettingError

DEFAULT_MEMORY_BYTES = 2 * 2**30
GIB = 2**30


def insufficient_memory(
    limit_bytes: int, required_bytes: float, contents: str, alternative: str
) -> InvalidSettingError:
    """Return the error that ``contents`` need more than ``limit_bytes`` bytes."""
    required_gib = math.ceil(required_bytes / GIB * 1000) / 1000
    return InvalidSettingError(
        f"{limit_bytes / GIB:.3g} GiB do not hold {contents}.",
        f"Allow at least {required_gib:.3f} GiB with --memory, or {alternative}.",
    )
