"""The table of the embedded datasets follows from their cards."""

from __future__ import annotations

import json

import pytest

from obdbench.datasets.embedded import FILES
from tools.data_table import PAGE, data_table, fill_table


def test_the_documented_table_follows_from_the_cards():
    page = PAGE.read_text(encoding="utf-8")
    assert fill_table(page) == page


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


def test_a_page_without_the_block_is_refused():
    with pytest.raises(SystemExit):
        fill_table("no table")
