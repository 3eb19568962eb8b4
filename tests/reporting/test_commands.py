"""The commands on a page: those of the manifest, harmless wherever they are copied to."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.paths import ROOT

from obdbench.experiments.suite import load_suite
from obdbench.reporting.grids.suite_results import SuiteResults, make_entry, read_suite_results
from obdbench.reporting.pages import markdown_blocks
from obdbench.reporting.tables.suite_report import build_report
from obdbench.results.record import Manifest, Result, write_json

COMMITTED = ROOT / "leaderboards" / "results"
SUITES = sorted({path.parent.name for path in COMMITTED.glob("*/[0-9a-f]*.json")})
RUN = ("run", "quick", "--seeds", "0-2")


def read_trials(folder: Path, commands: dict[str, tuple[str, ...]]) -> SuiteResults:
    """Two unfinished trials whose manifest contains these commands, by objective."""
    specs = load_suite("quick").select(objectives=["pbc", "dbc"]).specs()
    for spec in specs:
        record = Result.unfinished(spec, "quick", "failed", "reason")
        write_json(record, folder / f"{spec.key}.json")
    manifest = Manifest(suite="quick", trials={spec.key: spec for spec in specs})
    for spec in specs:
        manifest = manifest.with_trials([spec], commands.get(spec.objective, ()))
    write_json(manifest, folder / "manifest.json")
    return read_suite_results(folder, strict=True)


def commands_of(results: SuiteResults) -> list[list[str]]:
    """The words of every command in the code block of the page."""
    text = markdown_blocks(build_report(results), "", "")["measurement"]
    block = re.search(r"```bash\n(.*?)\n```", text, re.DOTALL)
    if block is None:
        return []
    return [shlex.split(line) for line in block[1].replace(" \\\n", " ").splitlines()]


@pytest.mark.parametrize("suite", SUITES)
def test_committed_suites_state_their_commands(suite):
    commands = commands_of(read_suite_results(COMMITTED / suite, strict=True))
    assert commands
    assert all(words[:2] == ["obdbench", "run"] for words in commands)


def test_a_command_of_several_trials_appears_once(tmp_path):
    results = read_trials(tmp_path, {"pbc": RUN, "dbc": RUN})
    assert commands_of(results) == [["obdbench", *RUN]]


def test_several_commands_stand_each(tmp_path):
    results = read_trials(tmp_path, {"pbc": RUN, "dbc": ("run", "mine.toml")})
    assert commands_of(results) == [["obdbench", "run", "mine.toml"], ["obdbench", *RUN]]


def test_results_without_a_command_show_none(tmp_path):
    assert commands_of(read_trials(tmp_path, {"pbc": RUN})) == [["obdbench", *RUN]]
    records = [entry.record for entry in read_trials(tmp_path, {}).entries]
    entries = tuple(make_entry(record, f"{record.key}.json") for record in records)
    assert commands_of(SuiteResults("quick", entries)) == []


@pytest.mark.parametrize("word", ["a;rm -r x", "$(id)", "a|b", "a && b", "my data.npz"])
def test_words_are_quoted_for_the_shell(tmp_path, word):
    results = read_trials(tmp_path, {"pbc": ("run", word)})
    assert commands_of(results) == [["obdbench", "run", word]]


def test_long_commands_are_continued_on_the_next_line(tmp_path):
    words = ("run", "quick", *("--objective", "an-objective-with-a-long-name") * 9)
    results = read_trials(tmp_path, {"pbc": words})
    assert commands_of(results) == [["obdbench", *words]]
    text = markdown_blocks(build_report(results), "", "")["measurement"]
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("word", ["a`b", "a\nb", "\x1b]0;title\x07"])
def test_a_command_that_would_break_the_page_is_omitted(tmp_path, word):
    assert commands_of(read_trials(tmp_path, {"pbc": ("run", word)})) == []
