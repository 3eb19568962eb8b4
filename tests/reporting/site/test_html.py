"""The leaderboard site: self-contained, inert, and complete; its script in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import FIXTURES

from obdbench.datasets import embedded
from obdbench.datasets.loading import load_dataset
from obdbench.datasets.projection import StateProjection
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidDataError
from obdbench.experiments.spec import TrialSpec
from obdbench.registry import D4RL_NAMES
from obdbench.reporting.grids.suite_results import ResultEntry, SuiteResults
from obdbench.reporting.site import html as page
from obdbench.reporting.site import site_data
from obdbench.reporting.site.site_data import SiteSuite
from obdbench.reporting.tables.suite_report import build_report
from obdbench.results.headline import headline_score
from obdbench.results.record import Result

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
PICTURE = "R0lGODlhAQABAAAAACwAAAAAAQABAAA="
HOSTILE = '</script><img src=x onerror="document.body.dataset.foreign=1"><script>alert(1)</script>'


@pytest.fixture(autouse=True)
def _frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """One-pixel pictures instead of rendered states."""
    monkeypatch.setattr(
        site_data,
        "render_states",
        lambda groups: [[PICTURE] * len(group.observations) for group in groups],
    )


@pytest.fixture(scope="module")
def home(results_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(results_root, folder / "results")
    page.write_html(page.read_suites(folder / "results"), folder)
    return folder


@pytest.fixture(scope="module")
def content(home: Path) -> dict[str, Any]:
    return read_data((home / "index.html").read_text())


@pytest.fixture(scope="module")
def with_synsets(quick: SuiteResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick suite with one distillation's synsets beside its results."""
    folder = tmp_path_factory.mktemp("local")
    entry = next(entry for entry in quick.entries if entry.spec.objective == "pbc")
    (folder / "quick").mkdir()
    (folder / "quick" / entry.file).write_text(
        (FIXTURES / "results/quick" / entry.file).read_text()
    )
    dataset = embedded.load(entry.spec.dataset)
    steps = folder / "quick" / "synsets" / entry.spec.distill_key / "40"
    for seed in entry.spec.seeds:
        actions = dataset.actions[:16] * 2
        synset = Synset(dataset.states[:16], actions, dataset.standardizer, dataset.task)
        steps.mkdir(parents=True, exist_ok=True)
        synset.save(steps / f"seed{seed}.safetensors")
    return folder


class TagReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def read_tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = TagReader()
    reader.feed(text)
    return reader.tags


def read_data(text: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert match is not None
    return dict(json.loads(match[1]))


def decode_points(text: str, width: int) -> np.ndarray[Any, Any]:
    values = np.frombuffer(b64decode(text), "<i2") / site_data.SCALE
    return values.reshape(-1, width)


def hostile_suite(entry: ResultEntry) -> SiteSuite:
    """A suite whose names and texts are markup."""
    spec = entry.spec.model_copy(update={"objective": HOSTILE})
    record = entry.record.model_copy(update={"spec": spec, "key": spec.key})
    results = SuiteResults(HOSTILE, (type(entry)(HOSTILE, record, entry.curves),))
    return SiteSuite(build_report(results), Path("results") / "hostile")


def test_the_site_loads_nothing_from_elsewhere(home):
    text = (home / "index.html").read_text()
    tags = read_tags(text)
    banned = ("link", "iframe", "object", "embed", "base", "img")
    assert not [tag for tag, _ in tags if tag in banned]
    assert not [attrs for _, attrs in tags if "src" in attrs or "style" in attrs]
    assert "url(" not in text.split("</style>")[0]
    policy = next(attrs["content"] for tag, attrs in tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_every_result_file_is_linked(home, content, d4rl, quick):
    for suite in content["suites"]:
        links = {
            cell[2]
            for t in suite["tables"]
            for row in t["rows"]
            for cell in row
            if cell[2:3] > [""]
        }
        results = {"quick": quick, "d4rl": d4rl}[suite["name"]]
        assert links == {entry.file for entry in results.entries}
        assert all((home / f"{suite['links']}{link}").is_file() for link in links)


def test_every_table_is_on_the_site(content, d4rl, quick):
    for results in (quick, d4rl):
        suite = next(s for s in content["suites"] if s["name"] == results.suite)
        tables = [t for ts in build_report(results).tables.values() for t in ts]
        shown = {table["title"]: table for table in suite["tables"]}
        assert len(suite["tables"]) == len(tables)
        for table in tables:
            texts = [[cell[0] for cell in row] for row in shown[table.title]["rows"]]
            assert texts == [[cell.text for cell in row] for row in table.rows]


def test_rows_have_the_scores_of_the_grids(content, d4rl):
    grid = next(g for g in build_report(d4rl).grids if g.protocol == "default")
    suite = [s["name"] for s in content["suites"]].index("d4rl")
    shown = {
        content["methods"][row["method"]]["label"]: row
        for row in content["rows"]
        if row["suite"] == suite and row["protocol"] == "default"
    }
    assert shown.keys() == {row.label for row in grid.rows}
    for row in grid.rows:
        average = shown[row.label]["average"].get("all")
        assert (average is None) == (row.average is None)
        if average is not None:
            assert average[0] == pytest.approx(row.average, abs=0.005)
        for cell in shown[row.label]["cells"]:
            curves = row.cells[content["datasets"][cell["dataset"]]["id"]].curves
            assert cell["seeds"] == sorted(curves)
            expected = [headline_score(curves[seed]) for seed in cell["seeds"]]
            assert cell["scores"] == pytest.approx(expected, abs=0.005)


def test_the_average_of_a_task_is_over_its_datasets(d4rl):
    grid = next(g for g in build_report(d4rl).grids if g.protocol == "default")
    row = next(row for row in grid.rows if row.complete)
    averages = site_data.task_averages(row)
    for task in set(averages) - {"all"}:
        cells = [cell for dataset, cell in row.cells.items() if task in dataset]
        means = [np.mean(cell.scores) for cell in cells]
        assert averages[task][0] == pytest.approx(float(np.mean(means)), abs=5e-5)


def test_long_curves_keep_the_points_of_the_headline_score():
    curve = tuple((step, float(step % 7)) for step in range(400))
    thin = site_data.thin_curve(curve)
    assert len(thin) == site_data.MAX_CURVE_POINTS
    assert thin[0] == curve[0]
    assert headline_score(thin) == headline_score(curve)
    assert site_data.thin_curve(curve[:9]) == curve[:9]


def test_states_are_projected_on_the_directions_of_largest_variance():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(500, 4)) * [1.0, 5.0, 0.2, 2.0] + 3.0
    projection = StateProjection.fit(states)
    points = projection.apply(states)
    singular = np.linalg.svd(states - states.mean(axis=0), compute_uv=False)
    assert points.std(axis=0, ddof=1) == pytest.approx(singular[:2] / np.sqrt(499))
    shares = singular[:2] ** 2 / (singular**2).sum()
    assert projection.explained == pytest.approx(tuple(shares))
    assert (projection.components.max(axis=0) == np.abs(projection.components).max(axis=0)).all()
    decoded = decode_points(site_data.encode_points(points), 2)
    assert decoded == pytest.approx(points, abs=1 / site_data.SCALE)


def test_synsets_beside_results_lie_in_the_components_of_their_data(with_synsets, quick, tmp_path):
    page.write_html(page.read_suites(with_synsets), tmp_path)
    content = read_data((tmp_path / "index.html").read_text())
    (synset,) = content["synsets"]
    dataset = embedded.load(content["datasets"][synset["dataset"]]["id"])
    points = decode_points(synset["points"], 2 + synset["actions"])
    assert synset["over_data"]
    assert (synset["label"], synset["step"], synset["pairs"]) == ("pbc", 40, 16)
    expected = StateProjection.fit(dataset.states).apply(dataset.states[:16])
    assert points[:, :2] == pytest.approx(expected, abs=0.01)
    assert points[:, 2:] == pytest.approx(dataset.actions[:16] * 2, abs=0.001)
    assert synset["frames"] == [PICTURE] * site_data.FRAMES


def test_a_damaged_synset_is_left_out(with_synsets, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(with_synsets, folder)
    for path in folder.rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    page.write_html(page.read_suites(folder), tmp_path)
    assert read_data((tmp_path / "index.html").read_text())["synsets"] == []


def test_own_results_lie_among_the_published_ones(results_root, with_synsets, tmp_path):
    suites = page.read_suites(results_root) + page.read_suites(with_synsets, local=True)
    page.write_html(suites, tmp_path)
    content = read_data((tmp_path / "index.html").read_text())
    named = [(suite["name"], suite["local"]) for suite in content["suites"]]
    assert named == [("quick", False), ("d4rl", False), ("quick", True)]
    local = [row for row in content["rows"] if content["suites"][row["suite"]]["local"]]
    assert [content["methods"][row["method"]]["label"] for row in local] == ["pbc"]


def test_a_dataset_has_its_facts_beside_those_of_d4rl(content):
    facts = {dataset["id"]: dataset for dataset in content["datasets"]}
    here = facts["embedded/hopper-medium-replay-v1"]
    assert (
        here["here"]["transitions"]
        == load_dataset("embedded/hopper-medium-replay-v1").card["committed"]["transitions"]
    )
    assert here["d4rl"]["transitions"] == 402_000
    assert len(here["here"]["observation_mean"]) == len(here["d4rl"]["observation_mean"]) == 11
    genuine = next(dataset for name, dataset in facts.items() if name.startswith("d4rl/"))
    assert genuine["here"] == {}
    assert "states" not in genuine


def test_text_from_files_cannot_become_markup(d4rl, tmp_path):
    text = page.render_html([hostile_suite(d4rl.entries[0])], tmp_path)
    assert "<img" not in text
    assert text.count("<script") == 2
    content = read_data(text)
    assert content["suites"][0]["name"] == HOSTILE
    assert content["methods"][0]["label"] == HOSTILE


def test_suites_without_results_give_an_empty_page(tmp_path):
    folder = tmp_path / "results" / "quick"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"schema_version": 1, "suite": "quick", "trials": {}}')
    assert (
        "No results yet"
        in page.write_html(page.read_suites(tmp_path / "results"), tmp_path).read_text()
    )
    with pytest.raises(InvalidDataError, match="results"):
        page.write_html(page.read_suites(tmp_path / "nowhere"), tmp_path)


def many_results(count: int) -> SuiteResults:
    """Trials of 5 seeds with 9 evaluation points on nine datasets."""
    rng = np.random.default_rng(0)
    entries = []
    for number in range(count):
        dataset = f"embedded/{D4RL_NAMES[number % 9]}-v1"
        spec = TrialSpec(
            dataset=dataset,
            objective=f"objective-{number // 9 % 12}",
            objective_params={"value": number // 108},
            seeds=(0, 1, 2, 3, 4),
        )
        record = Result(key=spec.key, suite="many", spec=spec, status="ok")
        curves = {
            seed: tuple((30 * i, float(v)) for i, v in enumerate(rng.uniform(0, 100, 9)))
            for seed in spec.seeds
        }
        entries.append(ResultEntry(f"{spec.key}.json", record, {"default": curves}))
    return SuiteResults("many", tuple(entries))


@pytest.fixture(scope="module")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with 2,000 results."""
    folder = tmp_path_factory.mktemp("large")
    suite = SiteSuite(build_report(many_results(2_000)), folder / "results" / "many")
    (folder / "index.html").write_text(page.render_html([suite], folder))
    return folder / "index.html"


@pytest.mark.slow
def test_two_thousand_results_take_at_most_three_megabytes(large_page):
    assert 500_000 < large_page.stat().st_size <= 3_000_000


def dump(path: Path, profile: Path, width: int = 1280, virtual_time: bool = True) -> str:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},900"]
    command += ["--virtual-time-budget=5000"] if virtual_time else []
    command += ["--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def drive(source: Path, profile: Path, script: str, **options: Any) -> dict[str, Any]:
    """Run a script in the page; it fills ``seen``, and ``go`` follows an address."""
    text = source.read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    driver = f"""<script>(async () => {{
      const seen = {{}};
      const find = (selector) => [...document.querySelectorAll(selector)];
      const go = (address) => new Promise((done) => {{
        addEventListener("hashchange", done, {{ once: true }}); location.hash = address; }});
      try {{ {script} }} catch (error) {{ seen.error = String(error); }}
      document.body.dataset.seen = JSON.stringify(seen);
    }})();</script></body>"""
    driven = source.with_name("driven.html")
    driven.write_text(text.replace("</body>", driver))
    match = re.search(r'data-seen="([^"]*)"', dump(driven, profile, **options))
    assert match is not None
    observed = dict(json.loads(html.unescape(match[1])))
    assert "error" not in observed, observed
    return observed


@browser
def test_the_script_runs_under_its_own_policy(home, tmp_path):
    dom = dump(home / "index.html", tmp_path)
    assert 'data-ready="true"' in dom
    assert "<tbody><tr>" in dom


@browser
def test_a_foreign_script_does_not_run(home, tmp_path):
    text = (home / "index.html").read_text()
    foreign = "<script>document.body.dataset.foreign = 'ran'</script></body>"
    (home / "foreign.html").write_text(text.replace("</body>", foreign))
    assert "data-foreign" not in dump(home / "foreign.html", tmp_path)


@browser
def test_hostile_names_stay_text_in_the_browser(d4rl, tmp_path):
    source = tmp_path / "index.html"
    source.write_text(page.render_html([hostile_suite(d4rl.entries[0])], tmp_path))
    observed = drive(
        source,
        tmp_path / "profile",
        """
        seen.link = find("tbody th a")[0].textContent;
        await go(find("tbody th a")[0].hash);
        seen.title = find("h1")[0].textContent;
        await go("#tables/0");
        seen.images = find("img").length;
        seen.links = find("td a").map((link) => link.protocol);
        """,
    )
    assert observed["link"] == observed["title"] == HOSTILE
    assert observed["images"] == 0
    assert set(observed["links"]) == {"file:"}
    assert "data-foreign" not in dump(source, tmp_path / "profile")


@browser
def test_links_into_a_folder_with_a_space_are_encoded_once(d4rl, tmp_path):
    source = tmp_path / "index.html"
    suite = SiteSuite(build_report(d4rl), tmp_path / "my results")
    source.write_text(page.render_html([suite], tmp_path))
    observed = drive(
        source,
        tmp_path / "profile",
        """
        await go("#tables/-1");
        seen.links = find("td a").map((link) => link.getAttribute("href"));
        """,
    )
    assert observed["links"]
    assert all(link.startswith("./my%20results/") for link in observed["links"])


@browser
def test_sorting_and_filtering(home, tmp_path):
    observed = drive(
        home / "index.html",
        tmp_path,
        """
        const choose = (label, value) => {
          const control = find(".filters label").find((l) => l.textContent.startsWith(label))
            .querySelector("select");
          control.value = value;
          control.dispatchEvent(new Event("change"));
        };
        const names = () => find("tbody tr").map((row) => row.cells[0].textContent);
        const heads = () => find("th button");
        choose("Data source", "embedded");
        seen.start = names();
        seen.sorted = find("th[aria-sort]").map((head) => head.textContent);
        heads()[1].click(); seen.rising = names();
        heads()[0].click(); seen.words = names();
        choose("Method family", "selection"); seen.selection = names();
        choose("Method family", "all");
        choose("Data source", "all"); seen.all = names().length;
        choose("Task", "walker2d"); seen.walker = names().length;
        """,
    )
    assert observed["start"][0] == "sdw"
    assert observed["sorted"] == ["average"]
    assert observed["rising"] == observed["start"][::-1]
    assert observed["words"] == sorted(observed["start"])
    assert observed["selection"] == ["random"]
    assert observed["all"] > observed["walker"] > 0


@browser
def test_a_method_page_shows_every_seed_and_every_curve(home, content, tmp_path):
    observed = drive(
        home / "index.html",
        tmp_path,
        """
        await go("#method/pbc");
        seen.title = find("h1")[0].textContent;
        seen.focused = document.activeElement.tagName;
        seen.dots = find(".dot").length;
        seen.curves = find(".curve").length;
        seen.settings = find("details").length;
        """,
    )
    number = next(i for i, m in enumerate(content["methods"]) if m["label"] == "pbc")
    rows = [row for row in content["rows"] if row["method"] == number and not row["arm"]]
    cells = [cell for row in rows for cell in row["cells"]]
    assert (observed["title"], observed["focused"]) == ("pbc", "H1")
    assert observed["dots"] == sum(len(cell["scores"]) for cell in cells) > 0
    assert observed["curves"] == sum(len(cell["curves"]) for cell in cells) > 0
    assert observed["settings"] > 0


@browser
def test_a_dataset_page_shows_facts_states_and_moments(home, tmp_path):
    observed = drive(
        home / "index.html",
        tmp_path,
        """
        await go("#dataset/embedded%2Fhopper-medium-replay-v1");
        seen.headings = find("h2").map((heading) => heading.textContent);
        seen.states = find(".cloud")[0].getAttribute("d").split("M").length - 1;
        await go("#dataset/nowhere");
        seen.unknown = find("h1")[0].textContent;
        """,
    )
    assert observed["headings"] == ["Facts beside D4RL's", "Scores", "States", "State moments"]
    assert site_data.DATA_POINTS <= observed["states"] <= 1.2 * site_data.DATA_POINTS
    assert observed["unknown"] == "Not found"


@browser
def test_the_synset_viewer_colors_the_pairs_by_the_chosen_action(with_synsets, tmp_path):
    source = page.write_html(page.read_suites(with_synsets), tmp_path)
    observed = drive(
        source,
        tmp_path / "profile",
        """
        await go("#synsets/0");
        const colors = () => find(".pair").map((pair) => pair.getAttribute("fill"));
        seen.first = colors();
        const control = find(".filters select")[1];
        control.value = "1";
        control.dispatchEvent(new Event("change"));
        seen.second = colors();
        seen.focused = document.activeElement.tagName;
        seen.frames = find(".frames img").length;
        """,
    )
    assert observed["frames"] == site_data.FRAMES
    assert len(observed["first"]) == len(observed["second"]) == 16
    assert observed["first"] != observed["second"]
    assert observed["focused"] == "SELECT"


@browser
def test_no_page_scrolls_sideways_on_a_phone(home, tmp_path):
    addresses = [
        "#leaderboard",
        "#method/pbc",
        "#datasets",
        "#dataset/embedded%2Fhopper-medium-replay-v1",
        "#synsets",
        "#tables/1",
    ]
    observed = drive(
        home / "index.html",
        tmp_path,
        f"""
        const frame = document.createElement("style");
        frame.textContent = "html {{ width: 360px; overflow-x: visible; }}";
        document.head.append(frame);
        seen.widths = [];
        for (const address of {json.dumps(addresses)}) {{
          if (location.hash !== address) await go(address);
          const parts = find("body *").filter((part) => !part.closest(".scroll table, .skip, svg"));
          seen.widths.push(Math.max(...parts.map((part) => part.getBoundingClientRect().right)));
        }}
        """,
        width=360,
    )
    assert len(observed["widths"]) == len(addresses)
    assert max(observed["widths"]) <= 360


@browser
@pytest.mark.slow
def test_two_thousand_results_load_in_a_second(large_page, tmp_path):
    script = "seen.rows = find('tbody tr').length; seen.milliseconds = performance.now();"
    observed = [drive(large_page, tmp_path, script, virtual_time=False) for _ in range(3)]
    assert all(seen["rows"] > 200 for seen in observed)
    # the fastest load: other programs delay the others
    assert 0 < min(seen["milliseconds"] for seen in observed) <= 1_000


@browser
@pytest.mark.slow
def test_long_tables_show_the_rest_on_request(large_page, tmp_path):
    observed = drive(
        large_page,
        tmp_path,
        """
        await go("#tables/0");
        const rows = () => find("tbody").at(-1).rows.length;
        seen.first = rows();
        find("p button").at(-1).click();
        seen.all = rows();
        """,
    )
    assert (observed["first"], observed["all"]) == (300, 2_000)


@pytest.mark.parametrize("shape", [(1, 3), (5, 1)])
def test_few_states_and_few_dimensions_are_projected(shape):
    states = np.arange(float(np.prod(shape))).reshape(shape)
    points = StateProjection.fit(states).apply(states)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
