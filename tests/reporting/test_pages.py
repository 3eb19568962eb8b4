"""Pages: what stands between markers follows from the results, everything else is left alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.paths import ROOT as REPOSITORY

from obdbench.errors import InvalidDataError
from obdbench.reporting import pages
from obdbench.reporting.grouping import build_grids
from obdbench.reporting.pages import begin_marker, end_marker
from obdbench.reporting.plots import list_plots
from obdbench.tasks.task import TASKS, normalized_return


@pytest.fixture
def home(results_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(results_root, tmp_path / "results")
    pages.write_pages(tmp_path / "results", tmp_path, plots=False)
    return tmp_path


def check(home: Path, **options: object) -> list[str]:
    return pages.check_pages(home / "results", home, **options)


def test_pages_are_created_and_follow(home):
    assert {path.name for path in home.glob("*.md")} == {"quick.md", "recon.md"}
    assert check(home) == []


def test_writing_again_changes_nothing(home):
    before = {path: path.stat().st_mtime_ns for path in home.glob("*.md")}
    pages.write_pages(home / "results", home, plots=False)
    assert {path: path.stat().st_mtime_ns for path in home.glob("*.md")} == before


def test_every_link_leads_to_a_file(home, recon, quick):
    (home / "plots").mkdir()
    for collection in (recon, quick):
        for name, _, _ in list_plots(build_grids(collection), collection.suite):
            (home / "plots" / f"{name}.png").touch()
    for page in home.glob("*.md"):
        links = re.findall(r"\]\(([^)]+)\)", page.read_text())
        assert len(links) > 10
        for link in links:
            assert (home / link).exists(), link


def test_a_changed_number_is_found(home):
    page = home / "recon.md"
    text = page.read_text()
    page.write_text(text.replace("33.5", "43.5", 1))
    (message,) = check(home)
    assert "recon.md" in message
    assert "main" in message


def test_a_changed_result_is_found(home):
    name = re.search(r"results/quick/(\w+\.json)", (home / "quick.md").read_text())[1]
    path = home / "results" / "quick" / name
    content = json.loads(path.read_text())
    for point in content["points"]:
        point["returns"] = [[value + 100.0 for value in policy] for policy in point["returns"]]
        score = normalized_return(TASKS["hopper"], point["returns"]).mean()
        point["normalized_return"] = float(score)
    path.write_text(json.dumps(content))
    (message,) = check(home)
    assert "quick.md" in message


def test_a_missing_page_and_a_lost_result_are_found(home):
    (home / "quick.md").unlink()
    next((home / "results" / "recon").glob("[0-9a-f]*.json")).unlink()
    assert [message.split()[0] for message in check(home)] == [
        "quick.md",
        "recon.md",
    ]


def test_results_that_vanished_empty_their_page(home):
    shutil.rmtree(home / "results" / "recon")
    assert len(check(home)) == 1
    pages.write_pages(home / "results", home, plots=False)
    assert "No results yet" in (home / "recon.md").read_text()
    assert check(home) == []


def test_results_from_elsewhere_leave_other_suites_pages_alone(home, tmp_path):
    """One suite's results must not empty the pages of the others, nor the index."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(home / "results" / "quick", elsewhere / "smoke")
    before = {page.name: page.read_text() for page in home.glob("*.md")}
    written = pages.write_pages(elsewhere, home, plots=False)
    assert [path.name for path in written] == ["smoke.md"]
    assert {page.name: page.read_text() for page in home.glob("*.md")} | before == {
        page.name: page.read_text() for page in home.glob("*.md")
    }
    assert "No results yet" not in (home / "smoke.md").read_text()
    assert pages.check_pages(elsewhere, home) == []


@pytest.mark.parametrize("of", ["nowhere", "empty", "results/quick"])
def test_a_folder_without_suites_is_refused(home, of):
    (home / "empty").mkdir()
    hint = "folder above" if "/" in of else "--out"
    for call in (pages.check_pages, pages.write_pages):
        with pytest.raises(InvalidDataError, match=hint):
            call(home / of, home)


def test_prose_survives(home):
    page = home / "quick.md"
    page.write_text(page.read_text().replace("# Leaderboard: quick", "# Mine\n\nMy words.\n", 1))
    pages.write_pages(home / "results", home, plots=False)
    assert page.read_text().startswith("# Mine\n\nMy words.\n")
    assert check(home) == []


def test_a_page_may_drop_blocks(home):
    page = home / "quick.md"
    page.write_text(f"# Short\n\n{begin_marker('main')}\n{end_marker('main')}\n")
    assert len(check(home)) == 1
    pages.write_pages(home / "results", home, plots=False)
    assert "Main table" in page.read_text()
    assert "Cost" not in page.read_text()
    assert check(home) == []


def test_a_page_without_its_main_block_does_not_pass(home):
    page = home / "quick.md"
    page.write_text(re.sub(r"<!-- .*? -->\n?", "", page.read_text()).replace(" ± ", "9 ± "))
    (message,) = check(home)
    assert "quick.md has lost the markers of its main table" in message
    page.unlink()
    pages.write_pages(home / "results", home, plots=False)
    assert check(home) == []


def test_a_page_of_a_suite_without_results_owes_no_block(home):
    (home / "d4rl.md").write_text("# Later\n")
    assert check(home) == []


def test_every_block_of_a_name_is_compared(home):
    page = home / "quick.md"
    text = page.read_text()
    block = text[
        text.index(begin_marker("main")) : text.index(end_marker("main")) + len(end_marker("main"))
    ]
    page.write_text(text.replace(block, f"{block.replace(' ± ', '9 ± ')}\n\n{block}"))
    (message,) = check(home)
    assert "quick.md does not follow from its results: main." in message


@pytest.mark.parametrize("guide", [True, False])
def test_new_pages_link_what_is_there(results_root, tmp_path, guide):
    root, out = tmp_path / "my results (1)", tmp_path / "my pages"
    shutil.copytree(results_root, root)
    out.mkdir()
    if guide:
        (out / "README.md").write_text("# How to read\n")
    pages.write_pages(root, out, plots=False)
    text = (out / "quick.md").read_text()
    links = [unquote(link) for link in re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", text)]
    assert len(links) > 10
    assert f"../{root.name}/quick" in links
    assert ("README.md" in links) == guide
    assert [link for link in links if not (out / link).exists()] == []
    assert pages.check_pages(root, out) == []


def test_a_torn_marker_is_an_error(home):
    page = home / "quick.md"
    page.write_text(page.read_text().replace(end_marker("main"), "", 1))
    with pytest.raises(InvalidDataError, match="marker"):
        pages.write_pages(home / "results", home, plots=False)


def test_index_and_other_pages(home):
    (home / "README.md").write_text(f"{begin_marker('index')}\n{end_marker('index')}\n")
    outside = home / "docs" / "front.md"
    outside.parent.mkdir()
    outside.write_text(f"Hello\n{begin_marker('recon/main')}\n{end_marker('recon/main')}\n")
    pages.write_pages(home / "results", home, plots=False, also=[outside])
    index = (home / "README.md").read_text()
    assert "[quick](quick.md)" in index
    assert "sdw 39.7" in index
    assert "(../results/recon/" in outside.read_text()
    assert check(home, also=[outside]) == []
    outside.write_text(outside.read_text().replace("±", "+", 1))
    assert len(check(home, also=[outside])) == 1


def test_strict_refuses_what_lenient_names(home):
    (home / "results" / "quick" / "zz.json").write_text("{}")
    with pytest.raises(InvalidDataError, match=r"zz\.json"):
        check(home)
    with pytest.warns(UserWarning, match=r"zz\.json"):
        complaints = check(home, strict=False)
    assert "gaps" in complaints[0]


def test_committed_pages_follow_from_committed_results():
    home = REPOSITORY / "leaderboards"
    assert pages.check_pages(home / "results", home) == []


def test_committed_results_stay_small():
    files = (REPOSITORY / "leaderboards" / "results").rglob("*.json")
    assert sum(path.stat().st_size for path in files) <= 10 * 1024 * 1024
