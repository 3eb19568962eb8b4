"""The static page: self-contained, inert, sortable and filterable in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from obdbench.errors import InvalidDataError
from obdbench.reporting import html as page
from obdbench.reporting import pages
from obdbench.reporting.suite_report import build_report
from obdbench.reporting.suite_results import SuiteResults

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def home(results_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(results_root, folder / "results")
    pages.write_pages(folder / "results", folder)
    page.write_html(folder / "results", folder)
    return folder


class Scan(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def scan(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Scan()
    parser.feed(text)
    return parser.tags


def test_the_page_loads_nothing_from_elsewhere(home):
    tags = scan((home / "index.html").read_text())
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object", "embed", "base")]
    assert all("src" not in attrs for tag, attrs in tags if tag == "script")
    sources = [attrs["src"] for _, attrs in tags if "src" in attrs]
    assert len(sources) == 6
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "url(" not in (home / "index.html").read_text().split("</style>")[0]


def test_every_result_file_is_linked(home, recon, quick):
    tags = scan((home / "index.html").read_text())
    links = [attrs["href"] for tag, attrs in tags if tag == "a"]
    files = {f"results/{c.suite}/{entry.file}" for c in (recon, quick) for entry in c.entries}
    assert set(links) == files
    assert all((home / link).is_file() for link in links)


def test_every_table_is_on_the_page(home, recon, quick):
    text = (home / "index.html").read_text()
    tables = [t for c in (recon, quick) for ts in build_report(c).tables.values() for t in ts]
    assert text.count("<table>") == len(tables)
    for table in tables:
        assert html.escape(table.title) in text


def test_text_from_files_cannot_become_markup(recon, tmp_path):
    hostile = '"><script>alert(1)</script>'
    entry = recon.entries[0]
    spec = entry.spec.model_copy(update={"objective": hostile})
    record = entry.record.model_copy(update={"spec": spec, "key": spec.key})
    made = build_report(SuiteResults(hostile, (type(entry)(hostile, record, entry.curves),)))
    text = page.render_html({hostile: made}, tmp_path, tmp_path)
    assert "<script>alert" not in text
    assert text.count("<script>") == 1


def test_suites_without_results_give_an_empty_page(tmp_path):
    folder = tmp_path / "results" / "quick"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"schema_version": 1, "suite": "quick", "trials": {}}')
    assert "No results yet" in page.write_html(tmp_path / "results", tmp_path).read_text()
    with pytest.raises(InvalidDataError, match="no folder with the results"):
        page.write_html(tmp_path / "nowhere", tmp_path)


def dump(path: Path, profile: Path) -> str:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@browser
def test_the_script_runs_under_its_own_policy(home, tmp_path):
    dom = dump(home / "index.html", tmp_path)
    assert 'data-ready="true"' in dom


@browser
def test_a_foreign_script_does_not_run(home, tmp_path):
    text = (home / "index.html").read_text()
    foreign = "<script>document.body.dataset.foreign = 'ran'</script></body>"
    (home / "foreign.html").write_text(text.replace("</body>", foreign))
    assert "data-foreign" not in dump(home / "foreign.html", tmp_path)


@browser
def test_sorting_and_filtering(home, tmp_path):
    text = (home / "index.html").read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    drive = """<script>
      const table = document.querySelector("article[data-source=embedded] table");
      const heads = [...table.querySelectorAll("th button")];
      const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join();
      const said = {};
      said.start = names();
      heads[4].click(); said.falling = names();
      heads[4].click(); said.rising = names();
      heads[0].click(); said.words = names();
      const visible = () => [...document.querySelectorAll("article")]
        .filter((part) => part.offsetParent !== null).map((part) => part.dataset.source);
      said.all = [...new Set(visible())].sort().join();
      document.querySelector(".bar input[value=embedded]").click();
      said.filtered = [...new Set(visible())].sort().join();
      document.body.dataset.said = JSON.stringify(said);
    </script></body>"""
    (home / "driven.html").write_text(text.replace("</body>", drive))
    dom = dump(home / "driven.html", tmp_path)
    said = json.loads(html.unescape(re.search(r'data-said="([^"]*)"', dom)[1]))
    selected, *distilled = said["start"].split(",")
    assert (selected, distilled[0]) == ("random", "sdw")
    ranked = [*distilled, selected]
    assert said["falling"].split(",") == ranked
    assert said["rising"].split(",") == ranked[::-1]
    assert said["words"].split(",")[:2] == ["av-pbc", "av-pbc (weight_normalization=mean-one)"]
    assert said["all"] == ",embedded,recon"
    assert said["filtered"] == ",recon"
