"""Progress bars, which print few lines where the standard error is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 30.0  # between two lines of a bar in a log file


def progress_bar(
    iterable: Iterable[Any] | None = None, *, progress: bool = True, **options: Any
) -> tqdm[Any]:
    """A bar with the ``options`` of tqdm, hidden without ``progress``."""
    is_notebook = "ipykernel" in sys.modules
    if not sys.stderr.isatty() and not is_notebook:
        options |= {"mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS}
    return tqdm(iterable, disable=not progress, **options)
