"""Settings and defaults in the documentation are those of the code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.paths import ROOT

from obdbench.distillation.settings import DistillSettings
from obdbench.registry import objectives, protocols
from tools.settings_tables import PAGES, Row, expected_columns, read_tables, update_page

COMMAND = "run `python tools/settings_tables.py`"
TABLES = [(page, *table) for page in PAGES for table in read_tables(page)]


@pytest.mark.parametrize(
    ("page", "kind", "name", "rows"), TABLES, ids=[f"{table[1]}-{table[2]}" for table in TABLES]
)
def test_table_agrees_with_the_code(page: str, kind: str, name: str, rows: list[Row]) -> None:
    expected = expected_columns(kind, name)
    assert [row["setting"].strip("`") for row in rows] == list(expected), COMMAND
    for row in rows:
        columns = expected[row["setting"].strip("`")]
        assert {column: row[column] for column in columns} == columns, COMMAND
        assert row["meaning"]


def test_every_objective_and_protocol_with_settings_has_a_table() -> None:
    documented = {(kind, name) for _, kind, name, _ in TABLES}
    built_in = {
        kind: [entry.name for entry in registry if entry.origin.startswith("obdbench.")]
        for kind, registry in (("objective", objectives), ("protocol", protocols))
    }
    with_settings = {
        ("objective", name) for name in built_in["objective"] if expected_columns("objective", name)
    }
    all_protocols = {("protocol", name) for name in built_in["protocol"]}
    assert documented == with_settings | all_protocols | {("loops", ""), ("algorithms", "")}


def test_every_setting_of_distillation_is_described() -> None:
    (loops,) = [rows for _, kind, _, rows in TABLES if kind == "loops"]
    assert {row["setting"].strip("`") for row in loops} == set(DistillSettings.model_fields)


def test_update_replaces_a_stale_default(tmp_path: Path) -> None:
    page = tmp_path / "methods.md"
    shutil.copy(ROOT / "docs" / "methods.md", page)
    text = page.read_text()
    page.write_text(text.replace("| `beta` | 0.02 |", "| `beta` | 0.03 |"))
    assert page.read_text() != text
    update_page(page)
    assert page.read_text() == text
