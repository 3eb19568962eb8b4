"""Tables: golden files, absent averages of incomplete rows, and independence of rows."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.result_entries import checked_entry
from support.result_entries import entry as scored_entry

from obdbench.datasets.identifier import DatasetId
from obdbench.distillation.settings import DistillSettings
from obdbench.experiments.spec import TrialSpec
from obdbench.reporting.grids.grid import (
    Grid,
    Row,
    dataset_sort_key,
    natural_sort_key,
)
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import ResultEntry, SuiteResults
from obdbench.reporting.pages import markdown_blocks
from obdbench.reporting.rendering.markdown import escape_markdown, render_sections
from obdbench.reporting.tables.captions import (
    DIFFERENT_SEEDS_NOTE,
    HIGH_MISSED_VARIANCE,
    RECIPE_NOTE,
    WITHIN_INTERVAL,
    format_budget,
    measurement_facts,
    score_notes,
    summary_caption,
)
from obdbench.reporting.tables.leaderboard_tables import (
    GAIN_OVER_RANDOM,
    gaps_table,
    scores_table,
    summary_table,
)
from obdbench.reporting.tables.paper_tables import compare_with_papers, load_paper_tables
from obdbench.reporting.tables.suite_report import build_report
from obdbench.reporting.tables.table import Cell, Table, format_number
from obdbench.results.record import Result

GOLDEN = import_module("fixtures.make_golden")
EXPECTED = sorted(path.name for path in GOLDEN.GOLDEN.iterdir())


@pytest.fixture(scope="module")
def texts():
    return GOLDEN.golden_texts()


def test_every_golden_table_is_made_and_every_table_is_golden(texts):
    assert sorted(texts) == EXPECTED
    for block in ("main", "papers", "best", "comparisons", "size", "cost", "gaps", "measurement"):
        assert f"d4rl-{block}.md" in EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_tables_equal_the_golden_files(texts, name):
    assert texts[name] == (GOLDEN.GOLDEN / name).read_text(encoding="utf-8")


def grid_of(collection: SuiteResults, protocol: str = "default") -> Grid:
    return next(part for part in build_grids(collection) if part.protocol == protocol)


def row_of(part: Grid, objective: str) -> Row:
    return next(row for row in part.rows if row.objective == objective)


def test_incomplete_rows_have_neither_average_nor_rank(d4rl, texts):
    part = grid_of(d4rl)
    failed, lost = row_of(part, "dbc"), row_of(part, "pbc")
    for row, n_scores in ((failed, 6), (lost, 8)):
        assert (row.n_scores, row.n_expected) == (n_scores, 9)
        assert row.average is row.iqm is part.rank(row) is None
    line = next(line for line in texts["d4rl-main.md"].splitlines() if "| dbc |" in line)
    assert "| failed |" in line
    assert line.endswith("| – | +6.7 (3.0 to 10.5), 2 of 3 datasets | – | – | 6/9 |")


def test_whole_data_rows_have_no_rank(d4rl):
    part = grid_of(d4rl)
    assert row_of(part, "cal-ql-whole").average > row_of(part, "sdw").average
    assert part.rank(row_of(part, "cal-ql-whole")) is None
    assert part.rank(row_of(part, "sdw")) == 1


def grid_with_arms() -> Grid:
    """Two rows under two architectures each; ``mlp2`` scores 10 points less than ``mlp4``."""
    entries = []
    for name, base in (("random", 20.0), ("pbc", 33.0)):
        plain = entry(spec(name, "d4rl/hopper-medium-v2", protocol="cross-architecture"), base)
        mlp4 = plain.curves["default"]
        mlp2 = {s: tuple((step, v - 10.0) for step, v in c) for s, c in mlp4.items()}
        entries.append(replace(plain, curves={"mlp4": mlp4, "mlp2": mlp2}))
    return grid_of(SuiteResults("s", tuple(entries)), "cross-architecture")


def test_the_summary_compares_rows_of_one_arm_and_names_it():
    table = summary_table(grid_with_arms())
    gain = table.columns.index(GAIN_OVER_RANDOM)
    assert {row[0].text: row[gain].value for row in table.rows} == {
        "random, mlp2": None,
        "random, mlp4": None,
        "pbc, mlp2": pytest.approx(26.0),
        "pbc, mlp4": pytest.approx(26.0),
    }


def test_rows_of_several_arms_have_no_rank():
    part = grid_with_arms()
    assert all(row.complete and part.rank(row) is None for row in part.rows)


def test_the_measurement_of_every_protocol_is_stated(d4rl):
    facts = measurement_facts(build_grids(d4rl))
    protocols = [fact for fact in facts if fact.startswith("protocol ")]
    assert len(protocols) == len(build_grids(d4rl))
    for fact in protocols:
        for word in ("on d4rl", "episodes per evaluation point", "seeds 0–2", "environment "):
            assert word in fact
    assert any("torch" in fact for fact in facts)
    assert any("2026-01-" in fact for fact in facts)


def test_a_size_is_a_row(d4rl):
    part = grid_of(d4rl, "size")
    assert [row.arm for row in part.rows] == ["16", "64", "256"]
    assert len({row.identity for row in part.rows}) == 1


def test_variants_have_distinct_labels(quick):
    labels = [row.label for row in grid_of(quick).rows]
    assert "av-pbc" in labels
    assert "av-pbc (weight_normalization=mean-one)" in labels


def test_two_budgets_of_one_objective_are_two_rows():
    short, long = DistillSettings(steps=10), DistillSettings(steps=20)
    entries = [entry(spec("pbc", "embedded/hopper-medium-v1", s)) for s in (short, long)]
    rows = grid_of(SuiteResults("s", tuple(entries))).rows
    assert [row.label for row in rows] == ["pbc (steps=10)", "pbc (steps=20)"]


def test_budgets_may_differ_between_datasets_of_one_row():
    entries = [
        entry(spec("pbc", "d4rl/hopper-medium-v2", DistillSettings(steps=20))),
        entry(spec("pbc", "d4rl/walker2d-medium-v2", DistillSettings(steps=50))),
    ]
    (row,) = grid_of(SuiteResults("s", tuple(entries))).rows
    assert row.complete
    assert row.steps == (20, 50)


def test_more_seeds_of_the_same_trial_join_its_row():
    first = entry(spec("pbc", "d4rl/hopper-medium-v2", seeds=(0, 1)), base=10.0)
    more = entry(spec("pbc", "d4rl/hopper-medium-v2", seeds=(1, 2, 3)), base=50.0)
    (row,) = grid_of(SuiteResults("s", (first, more))).rows
    (cell,) = row.cells.values()
    assert cell.expected_seeds == {0, 1, 2, 3}
    assert cell.scores == (19.0, 101.0, 103.0, 105.0)
    assert {e.file for e in row.entries} == {first.file, more.file}


def test_the_budget_of_pairs_that_are_not_distilled_is_their_number():
    drawn, distilled = (entry(spec(name, "d4rl/hopper-medium-v2")) for name in ("random", "pbc"))
    at_start = {"default": dict.fromkeys((0, 1, 2), ((0, 5.0),))}
    part = grid_of(SuiteResults("s", (replace(drawn, curves=at_start), distilled)))
    assert format_budget(row_of(part, "random")) == "256 pairs"
    assert format_budget(row_of(part, "pbc")).startswith("256 pairs, fast, ")
    assert f"budget {format_budget(row_of(part, 'pbc'))};" in measurement_facts([part])[0]


def test_results_beyond_the_manifest_keep_the_ranks_of_others():
    planned = [spec(name, "d4rl/hopper-medium-v2") for name in ("pbc", "dbc")]
    stray = entry(spec("sdw", "d4rl/walker2d-medium-v2"))
    collection = SuiteResults(
        "s",
        (*map(entry, planned), stray),
        {trial.key: trial for trial in planned},
        has_manifest=True,
    )
    part = grid_of(collection)
    assert row_of(part, "pbc").complete
    assert not row_of(part, "sdw").complete
    assert len(part.datasets) == 2


def test_ranked_rows_with_different_seeds_are_noted():
    entries = (scored_entry("pbc", {0: 1.0, 1: 2.0}), scored_entry("random", {0: 1.0, 1: 2.0}))
    assert DIFFERENT_SEEDS_NOTE not in score_notes(grid_of(SuiteResults("s", entries)))
    baseline = scored_entry("behavior", {0: 1.0})  # has no rank
    assert DIFFERENT_SEEDS_NOTE not in score_notes(grid_of(SuiteResults("s", (*entries, baseline))))
    other = scored_entry("dbc", {0: 1.0})
    assert DIFFERENT_SEEDS_NOTE in score_notes(grid_of(SuiteResults("s", (*entries, other))))


def test_printed_averages_follow_from_the_printed_cells():
    tables = {paper.name: paper for paper in load_paper_tables()}
    assert len(tables["table 1"].datasets) == 9
    assert tables["table 1"].average("offrl-whole") == pytest.approx(76.26, abs=0.01)
    assert tables["table 1"].printed_average["offrl-whole"] == 70.1
    assert "disagrees" in tables["table 1"].note
    sizes = tables["table 5"]
    assert sizes.rows["256"][sizes.datasets.index("walker2d-medium-replay")] == 55.0
    for paper in tables.values():
        for name, printed in paper.printed_average.items():
            if name != "offrl-whole":
                assert paper.average(name) == pytest.approx(printed, abs=0.051)


def test_the_printed_average_that_disagrees_is_noted(texts):
    assert "76.3; printed 70.1" in texts["d4rl-papers.md"]


def test_embedded_data_are_compared_with_the_papers_and_marked_as_other_data():
    names = [f"embedded/{task}-medium-v1" for task in ("hopper", "walker2d")]
    results = SuiteResults("s", tuple(entry(spec("td3-bc-whole", name)) for name in names))
    (table,) = compare_with_papers(build_grids(results))
    assert RECIPE_NOTE in table.notes
    assert any(row[0].text == "td3-bc-whole" for row in table.rows)
    single = SuiteResults("s", results.entries[:1])
    assert compare_with_papers(build_grids(single)) == []


def test_published_values_within_the_interval_of_the_measured_mean_are_marked():
    scores = {"hopper-medium": {0: 20.0, 1: 25.0, 2: 31.0}, "walker2d-medium": {0: 50.0, 1: 50.5}}
    results = SuiteResults(
        "s", tuple(scored_entry("pbc", s, f"d4rl/{name}-v2") for name, s in scores.items())
    )
    (table,) = compare_with_papers(build_grids(results))
    row = next(row for row in table.rows if row[0].text == "pbc")
    texts = {column: cell.text for column, cell in zip(table.columns, row, strict=True)}
    assert texts["hopper medium"] == f"25.3 (25.1, +0.2 {WITHIN_INTERVAL})"
    assert texts["walker2d medium"] == "50.2 (33.2, +17.0)"


def test_d4rl_data_are_not_marked_as_other_data(d4rl):
    tables = compare_with_papers(build_grids(d4rl))
    assert tables
    assert not any(RECIPE_NOTE in table.notes for table in tables)


def test_text_from_files_cannot_become_markup():
    hostile = "<script>|`x`|[a](b)\n*b*"
    table = Table(hostile, ("a",), ((Cell(hostile, link="a b.json"),),), (hostile,))
    text = render_sections([table], "p/")
    assert "<script>" not in text
    assert "](p/a%20b.json)" in text
    assert escape_markdown("a|b") == "a\\|b"
    row = next(line for line in text.splitlines() if "a%20b" in line)
    assert row.count(" |") == 1


def test_a_note_that_several_tables_share_appears_once():
    table = Table("title", ("a",), ((Cell("b"),),), ("shared note",))
    assert render_sections([table, table]).count("shared note") == 1


def test_numbers_are_formatted_with_the_minus_sign():
    assert [format_number(v) for v in (-0.04, -1.25, None, 3.0)] == ["0.0", "−1.2", "–", "3.0"]
    assert format_number(2.0, sign=True) == "+2.0"
    assert format_number(-0.01, sign=True) == "0.0"


def test_names_are_sorted_in_natural_order():
    assert sorted(["128", "16", "64"], key=natural_sort_key) == ["16", "64", "128"]
    assert sorted(["residual", "mlp10", "mlp2"], key=natural_sort_key) == [
        "mlp2",
        "mlp10",
        "residual",
    ]
    assert DatasetId("minari/mujoco/hopper/medium-v0").short_name == "mujoco/hopper/medium"
    assert DatasetId("d4rl/hopper-medium-replay-v2").short_name == "hopper-medium-replay"
    assert (
        DatasetId("file:../data/hopper-mine.npz").short_name
        == DatasetId("file:/a/b/hopper-mine.npz").short_name
        == "hopper-mine"
    )
    names = ["d4rl/walker2d-medium-v2", "d4rl/hopper-medium-v2", "d4rl/hopper-medium-replay-v2"]
    assert sorted(names, key=dataset_sort_key)[0] == "d4rl/hopper-medium-replay-v2"


def spec(
    objective: str,
    dataset: str,
    chosen: DistillSettings | None = None,
    seeds: tuple[int, ...] = (0, 1),
    protocol: str = "default",
) -> TrialSpec:
    return TrialSpec(
        objective=objective,
        dataset=dataset,
        settings=chosen or DistillSettings(),
        seeds=seeds,
        protocol=protocol,
    )


def entry(trial: TrialSpec, base: float = 20.0, keep: tuple[int, ...] | None = None) -> ResultEntry:
    seeds = trial.seeds if keep is None else keep
    curves = {"default": {s: ((0, 1.0), (9, 2 * (base + s) - 1.0)) for s in seeds}}
    record = Result(key=trial.key, suite="s", spec=trial, status="ok")
    return ResultEntry(f"{trial.key}.json", record, curves)


SPECS = st.builds(
    spec,
    st.sampled_from(["random", "dbc", "pbc", "mine", "bc-whole"]),
    st.sampled_from(["d4rl/hopper-medium-v2", "d4rl/walker2d-medium-v2", "embedded/hopper-x-v1"]),
    st.sampled_from([DistillSettings(steps=n, pairs=p) for n in (10, 20) for p in (16, 32)]),
    st.sampled_from([(0,), (0, 1), (0, 1, 2), (1, 2)]),
    st.sampled_from(["default", "size", "ensemble"]),
)


@st.composite
def collections(draw: st.DrawFn) -> SuiteResults:
    """Random results of a random manifest, some without some of their seeds."""
    specs = draw(st.lists(SPECS, min_size=2, max_size=12, unique_by=lambda trial: trial.key))
    present = draw(st.lists(st.sampled_from(specs), min_size=1, unique_by=lambda trial: trial.key))
    entries = []
    for trial in present:
        keep = draw(st.lists(st.sampled_from(trial.seeds), unique=True))
        base = draw(st.integers(0, 90))
        entries.append(entry(trial, float(base), tuple(sorted(keep))))
    return SuiteResults(
        "s", tuple(entries), {trial.key: trial for trial in specs}, has_manifest=True
    )


def figures(collection: SuiteResults) -> dict[tuple[str, ...], object]:
    """Every number of every row, and its name."""
    return {
        (part.source, part.protocol, row.identity, row.arm): (
            row.label,
            row.n_scores,
            row.n_expected,
            row.average,
            row.iqm,
            {name: (cell.scores, cell.best_scores) for name, cell in row.cells.items()},
            [entry.file for entry in row.entries],
        )
        for part in build_grids(collection)
        for row in part.rows
    }


def ranking(collection: SuiteResults) -> dict[tuple[str, str], list[tuple[str, str]]]:
    return {
        (part.source, part.protocol): [
            (row.identity, row.arm) for row in part.sorted_rows() if part.rank(row) is not None
        ]
        for part in build_grids(collection)
    }


def rows_with(collection: SuiteResults, file: str) -> set[tuple[str, ...]]:
    return {
        (part.source, part.protocol, row.identity, row.arm)
        for part in build_grids(collection)
        for row in part.rows
        if any(entry_of_row.file == file for entry_of_row in row.entries)
    }


def assert_independent(collection: SuiteResults, file: str) -> None:
    touched = rows_with(collection, file)
    rest = replace(collection, entries=tuple(e for e in collection.entries if e.file != file))
    before, after = figures(collection), figures(rest)
    for name, numbers in before.items():
        if name not in touched:
            assert after[name] == numbers
    remaining = ranking(rest)
    for place, order in ranking(collection).items():
        untouched = [row for row in order if (*place, *row) not in touched]
        assert [row for row in remaining[place] if (*place, *row) not in touched] == untouched


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(collections(), st.data())
def test_dropping_a_result_changes_no_other_row(collection, data):
    dropped = data.draw(st.sampled_from(collection.entries))
    assert_independent(collection, dropped.file)


def test_dropping_each_committed_result_changes_no_other_row(quick):
    for dropped in quick.entries:
        assert_independent(quick, dropped.file)


@settings(max_examples=8, deadline=None)
@given(collections(), st.randoms())
def test_order_of_files_does_not_matter(collection, random):
    shuffled = list(collection.entries)
    random.shuffle(shuffled)
    again = replace(collection, entries=tuple(shuffled))
    assert markdown_blocks(build_report(again), "", "") == markdown_blocks(
        build_report(collection), "", ""
    )


@pytest.mark.parametrize(
    ("curve", "text"),
    [
        (((0, 1.0), (9, 2.0)), "that of its last evaluation point."),
        (((0, 1.0),), "that of its last evaluation point."),
        (((0, 1.0), (5, 2.0), (9, 3.0)), "the mean of its last 2 evaluation points."),
        (tuple((step, 1.0) for step in range(9)), "the mean of its last 5 evaluation points."),
    ],
)
def test_the_caption_counts_the_points_of_a_score(curve, text):
    trial = spec("pbc", "embedded/hopper-medium-v1", None, (0,))
    result = replace(entry(trial), curves={"default": {0: curve}})
    (part,) = build_grids(SuiteResults("s", (result,)))
    assert text in score_notes(part)[0]


def test_the_caption_names_rows_with_fewer_points():
    several = tuple((step, 1.0) for step in range(9))
    distilled = scored_entry("pbc", {0: 1.0, 1: 1.0})
    distilled = replace(distilled, curves={"default": {0: several, 1: several}})
    short = replace(distilled, curves={"default": {0: several, 1: several[:3]}})
    selected, whole = scored_entry("random", {0: 1.0}), scored_entry("bc-whole", {0: 1.0})
    text = "the mean of its last 5 evaluation points"
    for entries, expected in (
        ((distilled, selected), f"{text}; selected rows have one."),
        ((distilled, selected, whole), f"{text}; selected and whole-data rows have one."),
        ((short,), f"{text}, or of all if there are fewer."),
        ((short, whole), f"{text}, or of all if there are fewer; whole-data rows have one."),
    ):
        (part,) = build_grids(SuiteResults("s", entries))
        assert f"score of each seed is {expected}" in score_notes(part)[0]


def test_the_seeds_in_the_caption_of_the_summary_are_those_of_ranked_rows():
    ranked = (
        *(scored_entry(name, {0: 1.0, 1: 2.0}, start=0.5) for name in ("dbc", "pbc")),
        scored_entry("random", {0: 1.0}),
    )
    (part,) = build_grids(SuiteResults("s", ranked))
    assert summary_caption(part).endswith(" and 2 seeds (1 for random).")
    (part,) = build_grids(SuiteResults("s", (*ranked, scored_entry("behavior", {0: 1.0}))))
    text = " and 2 seeds per distilled or selected row (1 for random)."
    assert summary_caption(part).endswith(text)


def test_missing_trials_have_the_label_of_their_row():
    trial = spec("mine", "embedded/hopper-medium-v1").model_copy(
        update={"code": {"objective": "new"}}
    )
    old = entry(trial.model_copy(update={"code": {"objective": "old"}}))
    collection = SuiteResults("s", (old,), {trial.key: trial}, has_manifest=True)
    table = gaps_table(collection)
    assert [cell.text for cell in table.rows[0]][:3] == [
        "mine default (objective code=new)",
        "embedded/hopper-medium-v1",
        "missing",
    ]


def test_the_identity_of_a_row_is_json(d4rl):
    assert json.loads(grid_of(d4rl).rows[0].identity)["objective"] == "random"


def test_an_ensemble_has_as_many_members_as_its_protocol_says() -> None:
    from obdbench.evaluation.protocol import make_protocol
    from obdbench.reporting.tables.captions import ENSEMBLE_MEMBERS

    assert make_protocol("ensemble").policies == ENSEMBLE_MEMBERS


def test_scores_of_students_far_from_what_was_optimized_are_marked():
    entries = (
        checked_entry("pbc", {0: [1.0, 0.2], 1: [1.0, 0.2, 0.3]}),
        checked_entry("dbc", {0: [1.0, 0.2], 1: [1.0, 0.2]}),
    )
    (grid,) = build_grids(SuiteResults("s", entries))
    table = scores_table(grid)
    marked = {row[0].text: HIGH_MISSED_VARIANCE in row[3].text for row in table.rows}
    assert marked == {"pbc": True, "dbc": False}
    assert any(note.startswith(HIGH_MISSED_VARIANCE) for note in table.notes)


def test_tables_without_checks_explain_no_mark(quick):
    notes = [note for grid in build_grids(quick) for note in score_notes(grid)]
    assert not any(HIGH_MISSED_VARIANCE in note for note in notes)


def test_a_note_names_the_rows_of_a_teacher_that_was_trained_again() -> None:
    def taught(objective: str, checksum: str, started: str) -> ResultEntry:
        """An entry on a teacher, with the day of its result."""
        plain = scored_entry(objective, {0: 1.0}, teacher="iql")
        spec = plain.spec.model_copy(update={"teacher_checksum": checksum})
        timing = plain.record.timing.model_copy(update={"started": started})
        changes = {"key": spec.key, "spec": spec, "timing": timing}
        return replace(
            plain, file=f"{spec.key}.json", record=plain.record.model_copy(update=changes)
        )

    def notes(*entries: ResultEntry) -> str:
        (grid,) = build_grids(SuiteResults("s", entries))
        return " ".join(score_notes(grid))

    old = taught("pbc", "12" * 32, "2026-01-01"), taught("av-pbc", "12" * 32, "2026-01-01")
    assert "trained again" not in notes(*old, scored_entry("dbc", {0: 1.0}))
    new = taught("av-pbc", "34" * 32, "2026-01-02")
    assert (
        "iql of hopper-medium is 34343434 in av-pbc (teacher_checksum=34343434) and 12121212 in "
    ) in notes(*old, new)
    assert notes(*old, new).count("pbc") == 3
