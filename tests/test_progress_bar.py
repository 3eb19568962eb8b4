"""Progress bars on a terminal and in a log file."""

from __future__ import annotations

import io
import time

import pytest

from obdbench.progress_bar import progress_bar


def count_lines(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, progress: bool = True) -> int:
    """How often a bar of 40 updates in 0.4 seconds is written."""
    output = io.StringIO()
    monkeypatch.setattr(output, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stderr", output)
    for _ in progress_bar(range(40), progress=progress, desc="bar"):
        time.sleep(0.01)
    return output.getvalue().count("bar")


def test_a_bar_in_a_log_file_is_written_at_the_start_and_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert count_lines(monkeypatch, is_terminal=False) == 2
    assert count_lines(monkeypatch, is_terminal=True) > 2


def test_a_bar_is_hidden_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_lines(monkeypatch, is_terminal=True, progress=False) == 0
