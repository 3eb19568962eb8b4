"""The tables of the embedded datasets and teachers follow from their cards."""

from __future__ import annotations

import json

from obdbench.datasets.embedded import FILES
from obdbench.reporting.blocks import fill_blocks
from tools.data_table import PAGE, data_table, offline_rl_table, teacher_table


def test_the_documented_tables_follow_from_the_cards():
    page = PAGE.read_text(encoding="utf-8")
    blocks = {
        "data": data_table(),
        "teachers": teacher_table(),
        "offline-rl": offline_rl_table(),
    }
    assert fill_blocks(page, blocks, PAGE.name) == page


def test_a_row_shows_the_return_beside_the_published_one(tmp_path):
    name = "hopper-medium-v1"
    card = json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))
    card["committed"]["normalized_return_mean"] = 50.0
    (tmp_path / f"{name}.json").write_text(json.dumps(card), encoding="utf-8")
    rows = {line.split("`")[1]: line for line in data_table(tmp_path).splitlines()[2:]}
    assert "| 50.0 | 44.3 | +5.7 (6) |" in rows[name]
    assert "not built" in rows["walker2d-medium-expert-v1"]
    assert "(10)" in rows["walker2d-medium-expert-v1"]
    assert len(rows) == 9


def test_a_teacher_stands_beside_its_data_and_the_published_teacher(tmp_path):
    card = {
        "behavior_normalized_return": 40.0,
        "measured": {"normalized_return": 55.25, "standard_deviation": 3.0},
        "held_out": {"action_variance_share": 0.1, "value_return_correlation": 0.9},
    }
    path = tmp_path / "hopper-medium-v1-teacher.json"
    path.write_text(json.dumps(card), encoding="utf-8")
    rows = teacher_table(tmp_path).splitlines()[2:]
    assert len(rows) == 9  # and no average of an incomplete table
    assert "| `hopper-medium-v1` | 55.2 ± 3.0 | 40.0 | 60.4 | 56.4 | 0.10 | 0.90 |" in rows
