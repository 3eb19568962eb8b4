"""The command that writes leaderboards: how often it reads results, and what an error leaves."""

from __future__ import annotations

import shutil
from collections import Counter

from support.paths import FIXTURES

from obdbench.reporting.tables import suite_report


def test_a_wrong_overlay_is_an_error_before_anything_is_written(call, tmp_path):
    shutil.copytree(FIXTURES / "results", tmp_path / "results")
    arguments = ("--out", "results", "--to", "board", "--html", "--overlay", "nowhere")
    code, _, error = call("leaderboard", *arguments)
    assert code == 2
    assert "nowhere" in error
    assert "Check the path." in error
    assert not (tmp_path / "board").exists()


def test_results_are_read_once(call, tmp_path, monkeypatch):
    shutil.copytree(FIXTURES / "results", tmp_path / "results")
    shutil.copytree(FIXTURES / "results", tmp_path / "mine")
    read, read_suite = Counter(), suite_report.read_suite_results

    def count(folder, strict):
        read[f"{folder.parent.name}/{folder.name}"] += 1
        return read_suite(folder, strict)

    monkeypatch.setattr(suite_report, "read_suite_results", count)
    arguments = ("--out", "results", "--to", "board", "--html", "--overlay", "mine")
    code, printed, _ = call("leaderboard", *arguments)
    assert code == 0
    assert "index.html" in printed
    assert (tmp_path / "board" / "quick.md").is_file()
    assert read == dict.fromkeys(("results/quick", "results/d4rl", "mine/quick", "mine/d4rl"), 1)
