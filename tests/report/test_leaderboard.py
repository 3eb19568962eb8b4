"""Pages: what stands between markers follows from the results, everything else is left alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from obdbench.errors import InvalidDataError
from obdbench.report import leaderboard
from obdbench.report.grouping import grids
from obdbench.report.leaderboard import begin, end
from obdbench.report.plots import plot_names

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def home(results_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(results_root, tmp_path / "results")
    leaderboard.write(tmp_path / "results", tmp_path, plots=False)
    return tmp_path


def check(home: Path, **options: object) -> list[str]:
    return leaderboard.check(home / "results", home, **options)


def test_pages_are_created_and_follow(home):
    assert {path.name for path in home.glob("*.md")} == {"quick.md", "recon.md"}
    assert check(home) == []


def test_writing_again_changes_nothing(home):
    before = {path: path.stat().st_mtime_ns for path in home.glob("*.md")}
    leaderboard.write(home / "results", home, plots=False)
    assert {path: path.stat().st_mtime_ns for path in home.glob("*.md")} == before


def test_every_link_leads_to_a_file(home, recon, quick):
    (home / "plots").mkdir()
    for collection in (recon, quick):
        for name, _, _ in plot_names(grids(collection), collection.suite):
            (home / "plots" / f"{name}.png").touch()
    for page in home.glob("*.md"):
        links = re.findall(r"\]\(([^)]+)\)", page.read_text())
        assert len(links) > 10
        for link in links:
            if link != "README.md":
                assert (home / link).exists(), link


def test_a_changed_number_is_found(home):
    page = home / "recon.md"
    text = page.read_text()
    page.write_text(text.replace("33.5", "43.5", 1))
    (complaint,) = check(home)
    assert "recon.md" in complaint
    assert "main" in complaint


def test_a_changed_result_is_found(home):
    name = re.search(r"results/quick/(\w+\.json)", (home / "quick.md").read_text())[1]
    path = home / "results" / "quick" / name
    content = json.loads(path.read_text())
    content["environment"] = None
    for point in content["points"]:
        point["normalized_return"] += 3.0
    path.write_text(json.dumps(content))
    (complaint,) = check(home)
    assert "quick.md" in complaint


def test_a_missing_page_and_a_lost_result_are_found(home):
    (home / "quick.md").unlink()
    next((home / "results" / "recon").glob("[0-9a-f]*.json")).unlink()
    assert [complaint.split()[0] for complaint in check(home)] == ["quick.md", "recon.md"]


def test_results_that_vanished_empty_their_page(home):
    shutil.rmtree(home / "results" / "recon")
    assert len(check(home)) == 1
    leaderboard.write(home / "results", home, plots=False)
    assert "No results yet" in (home / "recon.md").read_text()
    assert check(home) == []


def test_prose_survives(home):
    page = home / "quick.md"
    page.write_text(page.read_text().replace("# Leaderboard: quick", "# Mine\n\nMy words.\n", 1))
    leaderboard.write(home / "results", home, plots=False)
    assert page.read_text().startswith("# Mine\n\nMy words.\n")
    assert check(home) == []


def test_a_page_may_drop_blocks(home):
    page = home / "quick.md"
    page.write_text(f"# Short\n\n{begin('main')}\n{end('main')}\n")
    assert len(check(home)) == 1
    leaderboard.write(home / "results", home, plots=False)
    assert "Main table" in page.read_text()
    assert "Cost" not in page.read_text()
    assert check(home) == []


def test_a_torn_marker_is_an_error(home):
    page = home / "quick.md"
    page.write_text(page.read_text().replace(end("main"), "", 1))
    with pytest.raises(InvalidDataError, match="marker"):
        leaderboard.write(home / "results", home, plots=False)


def test_index_and_other_pages(home):
    (home / "README.md").write_text(f"{begin('index')}\n{end('index')}\n")
    outside = home / "docs" / "front.md"
    outside.parent.mkdir()
    outside.write_text(f"Hello\n{begin('recon/main')}\n{end('recon/main')}\n")
    leaderboard.write(home / "results", home, plots=False, also=[outside])
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


def test_nothing_to_report(tmp_path):
    assert leaderboard.write(tmp_path / "nowhere", tmp_path) == []
    assert leaderboard.check(tmp_path / "nowhere", tmp_path) == []


def test_committed_pages_follow_from_committed_results():
    home = REPOSITORY / "leaderboards"
    assert leaderboard.check(home / "results", home) == []


def test_committed_results_stay_small():
    files = (REPOSITORY / "leaderboards" / "results").rglob("*.json")
    assert sum(path.stat().st_size for path in files) <= 10 * 1024 * 1024
