"""The number of examples of fuzz tests, and the outcomes that they allow.

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
INJECTION = "hypothesis: damaged bytes of valid files, junk in valid containers"
OUTCOME = "one line, or content that can be used"


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


def reading_test(
    name: str, injection: str = INJECTION, outcome: str = OUTCOME
) -> pytest.MarkDecorator:
    """The row of ``docs/reliability.md`` that a fuzz test of a reader makes."""
    return pytest.mark.reliability("input", name, injection=injection, outcome=outcome)


class ReadCounter:
    """Counts how often a reader accepts and rejects a file."""

    def __init__(self, attempts: AttemptCounter) -> None:
        self.attempts = attempts
        self.accepted = self.rejected = 0

    def read(self, reader: Callable[[], Any], use: Callable[[Any], Any] | None = None) -> Any:
        """Return what ``reader`` returns and ``use`` accepts; None after an error of one line."""
        rejection: ObdError | None = None
        with self.attempts, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                content = reader()
            except ObdError as error:
                rejection = error
            if rejection is None:
                self.accepted += 1
                if use is not None:
                    use(content)
                return content
            self.rejected += 1
            assert rejection.cause
            assert rejection.remedy
            assert "\n" not in str(rejection)
        return None
