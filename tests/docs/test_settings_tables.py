"""Settings and defaults printed in the documentation are those of the code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.settings_tables import PAGES, ROOT, due, rewrite, tables

from obdbench.distillation.settings import DistillSettings
from obdbench.registry import objectives, protocols

TABLES = [(page, *table) for page in PAGES for table in tables(page)]


@pytest.mark.parametrize(
    ("page", "kind", "name", "rows"), TABLES, ids=[f"{t[1]}-{t[2]}" for t in TABLES]
)
def test_table_agrees_with_the_code(
    page: str, kind: str, name: str, rows: list[dict[str, str]]
) -> None:
    wanted = due(kind, name)
    assert [row["setting"].strip("`") for row in rows] == list(wanted), (
        "python tests/support/settings_tables.py"
    )
    for row in rows:
        columns = wanted[row["setting"].strip("`")]
        assert {column: row[column] for column in columns} == columns, (
            "python tests/support/settings_tables.py"
        )
        assert row["meaning"]


def test_every_setting_has_a_table() -> None:
    held = {(kind, name) for _, kind, name, _ in TABLES}
    own = {
        kind: [entry.name for entry in registry if entry.origin.startswith("obdbench.")]
        for kind, registry in (("objective", objectives), ("protocol", protocols))
    }
    with_settings = {("objective", name) for name in own["objective"] if due("objective", name)}
    assert held == with_settings | {("protocol", name) for name in own["protocol"]} | {
        ("loops", "")
    }


def test_every_setting_of_the_loops_is_described() -> None:
    (loops,) = [rows for _, kind, _, rows in TABLES if kind == "loops"]
    assert {row["setting"].strip("`") for row in loops} == set(DistillSettings.model_fields)


def test_rewriting_mends_a_stale_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support import settings_tables

    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "objectives.md"
    shutil.copy(ROOT / "docs" / "objectives.md", page)
    good = page.read_text()
    page.write_text(good.replace("| `beta` | 0.02 |", "| `beta` | 0.03 |"))
    assert page.read_text() != good
    rewrite(page)
    assert page.read_text() == good
    monkeypatch.setattr(settings_tables, "ROOT", tmp_path)
    assert list(settings_tables.tables("docs/objectives.md")) == list(tables("docs/objectives.md"))
