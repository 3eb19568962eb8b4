"""The commands in a table's head: those of the manifest, harmless wherever they are copied to."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from obdbench.experiments.suite import load_suite
from obdbench.reporting.commands import format_commands
from obdbench.reporting.grid import Grid
from obdbench.reporting.grouping import build_grids
from obdbench.reporting.suite_results import SuiteResults, make_entry, read_suite_results
from obdbench.results.record import Manifest, Result, write_json

COMMITTED = Path(__file__).parents[2] / "leaderboards" / "results"
RUN = ("run", "quick", "--seeds", "0-2")


def read_grid(folder: Path, commands: dict[str, tuple[str, ...]]) -> Grid:
    """The grid of two unfinished trials whose manifest names these commands, by objective."""
    specs = load_suite("quick").select(objectives=["pbc", "dbc"]).specs()
    for spec in specs:
        record = Result.unfinished(spec, "quick", "failed", "reason")
        write_json(record, folder / f"{spec.key}.json")
    manifest = Manifest(suite="quick", trials={spec.key: spec for spec in specs})
    for spec in specs:
        manifest = manifest.with_trials([spec], commands.get(spec.objective, ()))
    write_json(manifest, folder / "manifest.json")
    (grid,) = build_grids(read_suite_results(folder, strict=True))
    return grid


@pytest.mark.parametrize("suite", ["quick", "embedded", "recon"])
def test_every_committed_trial_has_its_command(suite):
    for grid in build_grids(read_suite_results(COMMITTED / suite, strict=True)):
        commands = format_commands(grid).split(" && ")
        assert all(shlex.split(line)[:2] == ["obdbench", "run"] for line in commands)


def test_trials_of_one_command_name_it_once(tmp_path):
    grid = read_grid(tmp_path, {"pbc": RUN, "dbc": RUN})
    assert format_commands(grid) == "obdbench run quick --seeds 0-2"


def test_trials_of_several_commands_name_each(tmp_path):
    grid = read_grid(tmp_path, {"pbc": RUN, "dbc": ("run", "mine.toml")})
    assert format_commands(grid).split(" && ") == [
        "obdbench run mine.toml",
        "obdbench run quick --seeds 0-2",
    ]


def test_results_without_a_command_have_none(tmp_path):
    assert format_commands(read_grid(tmp_path, {"pbc": RUN})) == "obdbench run quick --seeds 0-2"
    entries = [make_entry(entry.record, entry.file) for entry in read_grid(tmp_path, {}).entries]
    (grid,) = build_grids(SuiteResults("quick", tuple(entries)))
    assert format_commands(grid) == ""


@pytest.mark.parametrize("word", ["a;rm -r x", "$(id)", "a|b", "a && b", "my data.npz"])
def test_words_are_quoted_for_the_shell(tmp_path, word):
    line = format_commands(read_grid(tmp_path, {"pbc": ("run", word)}))
    assert shlex.split(line) == ["obdbench", "run", word]


@pytest.mark.parametrize("word", ["a`b", "a\nb", "\x1b]0;title\x07"])
def test_a_command_that_would_break_the_page_is_left_out(tmp_path, word):
    assert format_commands(read_grid(tmp_path, {"pbc": ("run", word)})) == ""
