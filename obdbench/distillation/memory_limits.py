"""What a bound on memory means to the ways of an outer step: one refusal, in the same words."""

from __future__ import annotations

import math

from obdbench.errors import InvalidSettingError

GIB = 2**30


def insufficient_memory(memory: int, need: float, what: str, instead: str) -> InvalidSettingError:
    """``memory`` bytes do not hold ``what``, which takes at least ``need``."""
    least = math.ceil(need / GIB * 1000) / 1000
    return InvalidSettingError(
        f"{memory / GIB:.3g} GiB do not hold {what}.",
        f"Allow at least {least:.3f} GiB with --memory, or {instead}.",
    )
