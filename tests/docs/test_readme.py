"""Every code block of the README runs in a copy of a checkout; its figures are those of results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.command_server import CommandServer
from support.doc_blocks import Block, copy_checkout, run_code, runnable_blocks
from support.paths import FIXTURES, ROOT

from obdbench.reporting.blocks import fill_blocks
from obdbench.reporting.grids.suite_results import read_suite_results
from obdbench.reporting.pages import markdown_blocks
from obdbench.reporting.tables.paper_tables import load_paper_tables
from obdbench.reporting.tables.suite_report import build_report

README = runnable_blocks("README.md")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, command_server: CommandServer) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("readme"), command_server)


@pytest.mark.parametrize("block", README, ids=lambda block: block.name)
def test_block_runs(block: Block, checkout: Path, command_server: CommandServer) -> None:
    code = block.runnable_code()
    if code is None:
        pytest.skip(block.argument)
    done = run_code(code, checkout, command_server, shell=block.is_shell)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    if "compare" in code:
        assert "my-objective against av-pbc" in done.stdout
    if "--to results/leaderboards" in code:
        page = (checkout / "results" / "leaderboards" / "smoke.md").read_text()
        assert "| pbc |" in page
        assert "| random |" in page
    if "synset.save" in code:
        assert (checkout / "hopper.json").is_file()
        assert (checkout / "hopper.hdf5").stat().st_size > 0


def test_every_block_runs_or_has_a_replacement() -> None:
    assert len(README) >= 5
    assert not [block.name for block in README if block.marker == "skip"]


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 9216
    assert len(text.splitlines()) <= 200
    assert max(map(len, text.splitlines())) <= 300


def test_benchmark_leaves_the_checkout_clean() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.partition("\nbench:")[2].partition("\n\n")[0]
    assert "--out $(RESULTS)" in recipe
    assert "--to $(RESULTS)/leaderboards" in recipe
    assert "--publish" not in recipe


def test_pages_below_the_results_are_not_taken_for_results(tmp_path: Path) -> None:
    from obdbench.reporting.pages import write_pages

    shutil.copytree(FIXTURES / "results" / "quick", tmp_path / "quick")
    pages = tmp_path / "leaderboards"
    for _ in range(2):
        write_pages(tmp_path, pages, plots=False)
    assert (pages / "quick.md").is_file()
    assert not (pages / "leaderboards.md").exists()


def test_own_objective_is_the_example() -> None:
    example = (ROOT / "examples" / "my_objective.py").read_text()
    assert example in [block.code for block in README if block.language == "python"]


def test_own_objective_takes_fifteen_lines() -> None:
    lines = (ROOT / "examples" / "my_objective.py").read_text().splitlines()
    own = lines[next(i for i, line in enumerate(lines) if line.startswith("@")) :]
    assert sum(bool(line.strip()) for line in own) <= 15


def summary_block(folder: Path) -> str:
    return markdown_blocks(build_report(read_suite_results(folder)), "", "")["summary"]


def test_summary_table_follows_from_the_committed_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    texts = {"embedded/summary": summary_block(ROOT / "leaderboards" / "results" / "embedded")}
    assert fill_blocks(text, texts, "README.md") == text, "run `make leaderboard`"


def test_gain_over_random_is_the_mean_difference_over_seeds_and_datasets() -> None:
    averages, gains = {}, {}
    lines = [
        line
        for line in summary_block(FIXTURES / "results" / "quick").splitlines()
        if line.startswith("| ")
    ]
    for line in lines[2:]:
        name, average, gain = (cell.strip().split(" ")[0] for cell in line.split("|")[1:4])
        averages[name], gains[name] = float(average), gain
    for name in ("dbc", "pbc", "av-pbc", "sdw"):
        assert float(gains[name]) == pytest.approx(averages[name] - averages["random"], abs=0.11)
    assert gains["random"] == "–"


def test_figures_quoted_from_the_papers_are_theirs() -> None:
    table = next(table for table in load_paper_tables() if table.name == "table 1")
    text = " ".join((ROOT / "README.md").read_text().split())
    teachers, synsets = table.average("offrl-whole"), table.average("av-pbc")
    assert f"average {teachers:.1f}, synsets of 256 pairs {synsets:.1f}" in text
