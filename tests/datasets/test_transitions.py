"""Vectorized ``qlearning_dataset`` against a row-by-row transcription of its definition."""

from __future__ import annotations

import numpy as np
import pytest

from obdbench.datasets.transitions import qlearning_columns


def by_definition(columns: dict, limit: int) -> dict:
    """D4RL's definition, row by row."""
    rows = {name: [] for name in ("observations", "actions", "rewards", "terminals", "next")}
    counter = 0
    for row in range(len(columns["rewards"]) - 1):
        terminal = bool(columns["terminals"][row])
        last = columns["timeouts"][row] if "timeouts" in columns else counter == limit - 1
        if last:
            counter = 0
            continue
        if terminal:
            counter = 0
        rows["observations"].append(columns["observations"][row].astype(np.float32))
        rows["next"].append(columns["observations"][row + 1].astype(np.float32))
        rows["actions"].append(columns["actions"][row].astype(np.float32))
        rows["rewards"].append(np.float32(columns["rewards"][row]))
        rows["terminals"].append(terminal)
        counter += 1
    return rows


def recording(rng, rows, *, terminal=0.02, timeout=0.02, marked=True) -> dict:
    columns = {
        "observations": rng.normal(size=(rows, 4)),
        "actions": rng.normal(size=(rows, 2)),
        "rewards": rng.normal(size=rows),
        "terminals": rng.random(rows) < terminal,
    }
    if marked:
        columns["timeouts"] = rng.random(rows) < timeout
    return columns


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("marked", [True, False])
def test_equals_the_definition(seed, marked):
    rng = np.random.default_rng([seed, marked])
    rows = int(rng.integers(2, 600))
    rates = rng.choice([0.0, 0.01, 0.1, 0.6], size=2)
    columns = recording(rng, rows, terminal=rates[0], timeout=rates[1], marked=marked)
    limit = int(rng.integers(1, 60))
    expected, actual = by_definition(columns, limit), qlearning_columns(columns, limit)
    assert len(actual["rewards"]) == len(expected["rewards"])
    if not expected["rewards"]:
        return
    for name, array in {**dict.fromkeys(actual), **actual}.items():
        key = {"next_observations": "next"}.get(name, name)
        if key in expected:
            np.testing.assert_array_equal(array, np.asarray(expected[key]), err_msg=name)


def test_timeouts_mark_the_row_before_a_left_out_one():
    columns = recording(np.random.default_rng(0), 10, terminal=0, timeout=0)
    columns["timeouts"][4] = True
    columns["terminals"][7] = True
    actual = qlearning_columns(columns, 1000)
    np.testing.assert_array_equal(
        actual["observations"][:, 0].astype(np.float64).round(4),
        columns["observations"][[0, 1, 2, 3, 5, 6, 7, 8], 0].round(4),
    )
    assert np.flatnonzero(actual["timeouts"]).tolist() == [3, 7]
    assert np.flatnonzero(actual["terminals"]).tolist() == [6]
    assert actual["observations"].dtype == actual["rewards"].dtype == np.float32


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("marked", [True, False])
def test_less_than_two_rows_give_no_transition(rows, marked):
    actual = qlearning_columns(recording(np.random.default_rng(0), rows, marked=marked), 1000)
    assert {len(column) for column in actual.values()} == {0}
