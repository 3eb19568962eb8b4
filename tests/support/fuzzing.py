"""How much is tried, and what may come of it.

``OBDBENCH_FUZZ=20`` tries twenty times as many examples as the default run does. A given number of
examples is the same on every run, so that a failure here is a failure everywhere.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.recording import AttemptCounter

from obdbench.errors import ObdError

SCALE = max(1, int(os.environ.get("OBDBENCH_FUZZ") or 1))
HOW = "hypothesis: damaged bytes of valid files, junk in sound containers"
OUTCOME = "one line of ours, or content that can be used"


def examples(count: int) -> Any:
    """Settings of a fuzz test that tries ``count`` examples in the default run."""
    return settings(
        max_examples=count * SCALE,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=SCALE > 1,
        suppress_health_check=list(HealthCheck),
    )


def reader(what: str, how: str = HOW, outcome: str = OUTCOME) -> pytest.MarkDecorator:
    """The row of ``docs/reliability.md`` that a fuzz test of a reader makes."""
    return pytest.mark.reliability("input", what, how=how, outcome=outcome)


class Tried:
    """A reader's two outcomes, counted."""

    def __init__(self, attempts: AttemptCounter) -> None:
        self.attempts = attempts
        self.taken = self.refused = 0

    def reads(self, read: Callable[[], Any], use: Callable[[Any], Any] = lambda found: None) -> Any:
        """What was read and could be used, or None after one clear line."""
        refusal: ObdError | None = None
        with self.attempts, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = read()
            except ObdError as error:
                refusal = error
            if refusal is None:
                self.taken += 1
                use(found)
                return found
            self.refused += 1
            assert refusal.cause
            assert refusal.remedy
            assert "\n" not in str(refusal)
        return None
