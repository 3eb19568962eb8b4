"""Pages: generated blocks and files follow from the results, text by hand is not changed."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.paths import ROOT as REPOSITORY

from obdbench.errors import InvalidDataError
from obdbench.reporting import pages
from obdbench.reporting.blocks import begin_marker, end_marker
from obdbench.reporting.exports import CSV_COLUMNS, Leaderboards
from obdbench.reporting.grids.frame import load_results
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.pages import TABLES_PER_PAGE, list_commands, table_pages
from obdbench.reporting.rendering.plots import list_plots
from obdbench.reporting.tables.suite_report import build_report
from obdbench.tasks.task import TASKS, normalized_return

LONGEST_LINE = 400  # a row of a table with nine datasets


@pytest.fixture(scope="module")
def written(results_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and the pages that follow from them."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(results_root, folder / "results")
    pages.write_pages(folder / "results", folder, plots=False)
    return folder


@pytest.fixture
def home(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(written, tmp_path / "home")


def check(home: Path, **options: object) -> list[str]:
    return pages.check_pages(home / "results", home, **options)


def affected(problems: list[str]) -> set[str]:
    return {problem.split()[0] for problem in problems}


def markdown_files(folder: Path) -> list[Path]:
    return [
        path for path in folder.rglob("*.md") if "results" not in path.relative_to(folder).parts
    ]


def links_of(page: Path) -> list[str]:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    return [unquote(link) for link in links]


def test_pages_are_created_and_follow_from_the_results(home):
    created = {str(path.relative_to(home)) for path in markdown_files(home)}
    assert created == {
        "quick.md",
        "quick/details.md",
        "d4rl.md",
        "d4rl/protocols.md",
        "d4rl/papers.md",
        "d4rl/papers-2.md",
        "d4rl/details.md",
    }
    assert check(home) == []


def test_writing_again_changes_nothing(home):
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    pages.write_pages(home / "results", home, plots=False)
    after = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    assert after == before


def test_every_link_leads_to_a_file(home, d4rl, quick):
    (home / "plots").mkdir()
    for results in (d4rl, quick):
        for plot in list_plots(build_grids(results), results.suite):
            (home / "plots" / f"{plot.name}.png").touch()
    for page in markdown_files(home):
        for link in links_of(page):
            assert (page.parent / link).exists(), (page, link)


def test_every_result_file_is_linked_once_in_the_table_of_files(home, d4rl):
    text = (home / "d4rl" / "details.md").read_text()
    table = text[text.index("### Result files") :]
    for entry in d4rl.entries:
        assert table.count(f"](../results/d4rl/{entry.file})") == 1


def test_cells_with_scores_have_no_links(home):
    for page in markdown_files(home):
        rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
        assert not any("±" in line and "](" in line for line in rows)


def test_pages_have_few_tables_short_lines_and_one_account_of_the_measurement(home):
    for page in markdown_files(home):
        text = page.read_text()
        assert sum(line.startswith("| :--") for line in text.splitlines()) <= TABLES_PER_PAGE
        assert max(map(len, text.splitlines())) <= LONGEST_LINE
        front = page.parent == home
        assert text.count("How the results were measured") == 1
        assert text.count("torch 2.13.0") == front
        if not front:
            assert f"](../{page.parent.name}.md#how-the-results-were-measured)" in text


def test_commands_that_differ_in_datasets_become_one(d4rl):
    def command(dataset: str, *rest: str) -> tuple[str, ...]:
        return ("run", "d4rl", "--dataset", dataset, "--resume", "--out=x", *rest)

    entries = [e for e in d4rl.entries if e.spec.objective in ("pbc", "dbc")]
    named = [replace(e, command=command(e.spec.dataset)) for e in entries]
    names = sorted({e.spec.dataset for e in entries})
    assert list_commands(named) == ["obdbench run d4rl"]
    some = [replace(e, command=command(e.spec.dataset, "--seeds", "1")) for e in entries]
    some = [e for e in some if e.spec.dataset == names[0]]
    whole = [replace(e, command=("run", "d4rl")) for e in entries]
    assert list_commands([*whole, *some]) == [
        "obdbench run d4rl",
        f"obdbench run d4rl --seeds 1 --dataset={names[0]}",
    ]


def test_many_tables_are_divided_among_pages(d4rl):
    report = build_report(d4rl)
    tables = {**report.tables, "main": report.tables["main"] * 7}
    crowded = type(report)(report.results, report.grids, tables)
    by_name = {page.name: page.tables for page in table_pages(crowded)}
    assert {"sources", "papers", "papers-2"} <= by_name.keys()
    assert len(by_name["sources"]) == 7 - TABLES_PER_PAGE + len(tables["comparisons"])
    assert all(len(group) <= TABLES_PER_PAGE for group in by_name.values())


def test_csv_has_one_line_per_row_dataset_and_seed(home, d4rl):
    with (home / "d4rl.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == CSV_COLUMNS
    expected = sum(
        len(cell.expected_seeds)
        for grid in build_grids(d4rl)
        for row in grid.rows
        for cell in row.cells.values()
    )
    assert len(lines) == expected
    status = {line["status"] for line in lines}
    assert status == {"ok", "failed", "missing"}
    assert all((line["normalized_return"] == "") == (line["status"] != "ok") for line in lines)


def test_json_states_what_the_tables_state(home):
    content = Leaderboards.model_validate_json((home / "results.json").read_text())
    assert set(content.suites) == {"quick", "d4rl"}
    main = next(grid for grid in content.suites["d4rl"] if grid.protocol == "default")
    (first,) = [row for row in main.rows if row.rank == 1]
    assert first.objective == "sdw"
    methods = list(dict.fromkeys(row.method for row in main.rows))
    assert methods[:2] == ["distillation", "selection"]
    assert first.average == pytest.approx(33.4, abs=0.05)
    incomplete = [row for row in main.rows if row.n_scores < row.n_expected]
    assert {row.objective for row in incomplete} == {"dbc", "pbc"}
    assert all(row.average is row.iqm is row.rank is None for row in incomplete)


def test_a_changed_number_is_detected(home):
    page = home / "d4rl.md"
    page.write_text(page.read_text().replace("33.4", "43.4", 1))
    (problem,) = check(home)
    assert affected([problem]) == {"d4rl.md"}
    assert "main" in problem


@pytest.mark.parametrize("name", ["d4rl/papers.md", "d4rl.csv", "results.json"])
def test_a_changed_or_missing_generated_file_is_detected(home, name):
    text = (home / name).read_text()
    (home / name).write_text(text.replace("1", "2", 1))
    assert affected(check(home)) == {name}
    (home / name).unlink()
    assert affected(check(home)) == {name}
    pages.write_pages(home / "results", home, plots=False)
    assert (home / name).read_text() == text


def test_outdated_generated_pages_are_detected_and_removed_but_others_stay(home):
    outdated, own = home / "d4rl" / "papers-9.md", home / "d4rl" / "notes.md"
    outdated.write_text((home / "d4rl" / "papers.md").read_text())
    own.write_text("# Notes\n")
    assert affected(check(home)) == {"d4rl/papers-9.md"}
    pages.write_pages(home / "results", home, plots=False)
    assert not outdated.exists()
    assert own.exists()


def test_a_changed_result_is_detected(home):
    path = min((home / "results" / "quick").glob("[0-9a-f]*.json"))
    content = json.loads(path.read_text())
    for point in content["points"]:
        point["returns"] = [[value + 100.0 for value in policy] for policy in point["returns"]]
        score = normalized_return(TASKS["hopper"], point["returns"]).mean()
        point["normalized_return"] = float(score)
    path.write_text(json.dumps(content))
    assert affected(check(home)) == {"quick.md", "quick/details.md", "quick.csv", "results.json"}


def test_leaderboards_among_the_results_are_not_a_suite(results_root, tmp_path):
    root = tmp_path / "results"
    shutil.copytree(results_root, root)
    for _ in range(2):
        pages.write_pages(root, root / "leaderboards", plots=False)
    assert pages.check_pages(root, root / "leaderboards") == []
    assert not (root / "leaderboards" / "leaderboards.md").exists()
    assert set(load_results(root, strict=True).suite) == {"quick", "d4rl"}


def test_a_missing_page_and_a_missing_result_are_detected(home):
    (home / "quick.md").unlink()
    min((home / "results" / "d4rl").glob("[0-9a-f]*.json")).unlink()
    assert {"quick.md", "d4rl/details.md", "d4rl.csv"} <= affected(check(home))


def test_the_page_of_a_suite_whose_results_are_removed_becomes_empty(home):
    (home / "plots").mkdir()
    plots = ["d4rl-profile.png", "d4rl-heatmap.svg", "d4rl-own.png", "quick-embedded-profile.png"]
    for name in plots:
        (home / "plots" / name).touch()
    assert check(home) == []
    shutil.rmtree(home / "results" / "d4rl")
    outdated = {"d4rl.csv", "plots/d4rl-profile.png", "plots/d4rl-heatmap.svg"}
    assert affected(check(home)) >= {"d4rl.md"} | outdated
    pages.write_pages(home / "results", home, plots=False)
    assert "No results yet" in (home / "d4rl.md").read_text()
    assert not list((home / "d4rl").glob("*.md"))
    assert not any((home / name).exists() for name in outdated)
    assert sorted(path.name for path in (home / "plots").iterdir()) == plots[2:]
    assert check(home) == []


def test_results_from_elsewhere_do_not_change_the_pages_of_other_suites(home, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(home / "results" / "quick", elsewhere / "smoke")
    before = {page: page.read_bytes() for page in home.iterdir() if page.is_file()}
    written = pages.write_pages(elsewhere, home, plots=False)
    assert {str(path.relative_to(home)) for path in written} == {
        "smoke.md",
        "smoke/details.md",
        "smoke.csv",
    }
    assert {page: page.read_bytes() for page in before} == before
    assert "No results yet" not in (home / "smoke.md").read_text()
    assert pages.check_pages(elsewhere, home) == []


@pytest.mark.parametrize("folder", ["nowhere", "empty", "results/quick"])
def test_a_folder_without_suites_is_an_error(home, folder):
    (home / "empty").mkdir()
    hint = "folder above" if "/" in folder else "--out"
    for call in (pages.check_pages, pages.write_pages):
        with pytest.raises(InvalidDataError) as error:
            call(home / folder, home)
        assert hint in str(error.value)


def test_text_by_hand_is_kept(home):
    page = home / "quick.md"
    page.write_text(page.read_text().replace("# Leaderboard: quick", "# Mine\n\nMy words.\n", 1))
    pages.write_pages(home / "results", home, plots=False)
    assert page.read_text().startswith("# Mine\n\nMy words.\n")
    assert check(home) == []


def test_a_page_may_omit_blocks(home):
    page = home / "quick.md"
    page.write_text(f"# Short\n\n{begin_marker('main')}\n{end_marker('main')}\n")
    assert affected(check(home)) == {"quick.md"}
    pages.write_pages(home / "results", home, plots=False)
    assert "Main table" in page.read_text()
    assert "measured" not in page.read_text()
    assert check(home) == []


def test_a_page_without_its_main_block_does_not_pass(home):
    page = home / "quick.md"
    page.write_text(re.sub(r"<!-- .*? -->\n?", "", page.read_text()).replace(" ± ", "9 ± "))
    (problem,) = check(home)
    assert problem.startswith("quick.md ")
    assert "markers" in problem
    page.unlink()
    pages.write_pages(home / "results", home, plots=False)
    assert check(home) == []


def test_the_page_of_a_suite_without_results_needs_no_block(home):
    (home / "embedded.md").write_text("# Later\n")
    pages.write_pages(home / "results", home, plots=False)
    assert (home / "embedded.md").read_text() == "# Later\n"
    assert check(home) == []


def test_other_files_beside_the_pages_are_not_suites(home):
    (home / "notes.md").write_text("# Notes\n")
    (home / "embedded.csv").write_text("a,b\n")
    pages.write_pages(home / "results", home, plots=False)
    assert (home / "notes.md").read_text() == "# Notes\n"
    assert (home / "embedded.csv").exists()
    content = Leaderboards.model_validate_json((home / "results.json").read_text())
    assert set(content.suites) == {"quick", "d4rl"}
    assert check(home) == []


def test_every_block_of_a_name_is_compared(home):
    page = home / "quick.md"
    text = page.read_text()
    block = text[text.index(begin_marker("main")) : text.index(end_marker("main"))]
    block += end_marker("main")
    page.write_text(text.replace(block, f"{block.replace(' ± ', '9 ± ')}\n\n{block}"))
    (problem,) = check(home)
    assert problem.startswith("quick.md ")
    assert ": main." in problem


@pytest.mark.parametrize("guide", [True, False])
def test_new_pages_link_existing_files(results_root, tmp_path, guide):
    root, out = tmp_path / "my results (1)", tmp_path / "my pages"
    shutil.copytree(results_root, root)
    out.mkdir()
    if guide:
        (out / "README.md").write_text("# How to read\n")
    pages.write_pages(root, out, plots=False)
    links = [link for link in links_of(out / "quick.md") if not link.startswith("plots/")]
    assert f"../{root.name}/quick" in links
    assert ("README.md" in links) == guide
    assert [link for link in links if not (out / link).exists()] == []
    assert all((out / "quick" / link).exists() for link in links_of(out / "quick/details.md"))
    assert pages.check_pages(root, out) == []


def test_an_incomplete_marker_is_an_error(home):
    page = home / "quick.md"
    page.write_text(page.read_text().replace(end_marker("main"), "", 1))
    with pytest.raises(InvalidDataError):
        pages.write_pages(home / "results", home, plots=False)


def test_index_and_other_pages_show_blocks_of_suites(home):
    (home / "README.md").write_text(f"{begin_marker('index')}\n{end_marker('index')}\n")
    outside = home / "docs" / "front.md"
    outside.parent.mkdir()
    names = ("d4rl/main", "d4rl/pages", "d4rl/summary")
    blocks = "".join(f"{begin_marker(name)}\n{end_marker(name)}\n" for name in names)
    outside.write_text(f"Hello\n{blocks}")
    pages.write_pages(home / "results", home, plots=False, extra_pages=[outside])
    index = (home / "README.md").read_text()
    assert "[quick](quick.md)" in index
    assert "sdw 38.6" in index
    assert "(../d4rl/details.md)" in outside.read_text()
    assert check(home, extra_pages=[outside]) == []
    outside.write_text(outside.read_text().replace("±", "+", 1))
    assert len(check(home, extra_pages=[outside])) == 1


def test_the_check_refuses_files_that_pages_name(home):
    (home / "results" / "quick" / "zz.json").write_text("{}")
    with pytest.raises(InvalidDataError):
        check(home)
    before = {path: path.read_text() for path in markdown_files(home)}
    with pytest.warns(UserWarning, match=r"zz\.json"):
        pages.write_pages(home / "results", home, plots=False)
    changed = {path for path, text in before.items() if path.read_text() != text}
    assert changed == {home / "quick" / "details.md"}
    assert "zz.json" in (home / "quick" / "details.md").read_text()


def test_committed_pages_follow_from_committed_results():
    home = REPOSITORY / "leaderboards"
    assert pages.check_pages(home / "results", home) == []


def test_committed_pages_have_short_lines_and_few_tables():
    home = REPOSITORY / "leaderboards"
    for page in markdown_files(home):
        lines = page.read_text().splitlines()
        assert max(map(len, lines)) <= LONGEST_LINE, page
        assert sum(line.startswith("| :--") for line in lines) <= TABLES_PER_PAGE, page


def test_committed_results_stay_small():
    files = (REPOSITORY / "leaderboards" / "results").rglob("*.json")
    assert sum(path.stat().st_size for path in files) <= 10 * 1024 * 1024
