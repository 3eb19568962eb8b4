"""Vectorized ``qlearning_dataset`` against a row-by-row transcription of its definition."""

from __future__ import annotations

import numpy as np
import pytest

from obdbench.datasets.transitions import qlearning_columns


def by_definition(columns: dict, limit: int) -> dict:
    """D4RL's definition, one row after the other."""
    kept = {name: [] for name in ("observations", "actions", "rewards", "terminals", "next")}
    counted = 0
    for row in range(len(columns["rewards"]) - 1):
        ended = bool(columns["terminals"][row])
        last = columns["timeouts"][row] if "timeouts" in columns else counted == limit - 1
        if last:
            counted = 0
            continue
        if ended:
            counted = 0
        kept["observations"].append(columns["observations"][row].astype(np.float32))
        kept["next"].append(columns["observations"][row + 1].astype(np.float32))
        kept["actions"].append(columns["actions"][row].astype(np.float32))
        kept["rewards"].append(np.float32(columns["rewards"][row]))
        kept["terminals"].append(ended)
        counted += 1
    return kept


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
    wanted, got = by_definition(columns, limit), qlearning_columns(columns, limit)
    assert len(got["rewards"]) == len(wanted["rewards"])
    if not wanted["rewards"]:
        return
    for name, mine in {**dict.fromkeys(got), **got}.items():
        theirs = {"next_observations": "next"}.get(name, name)
        if theirs in wanted:
            np.testing.assert_array_equal(mine, np.asarray(wanted[theirs]), err_msg=name)


def test_timeouts_mark_the_row_before_a_left_out_one():
    columns = recording(np.random.default_rng(0), 10, terminal=0, timeout=0)
    columns["timeouts"][4] = True
    columns["terminals"][7] = True
    got = qlearning_columns(columns, 1000)
    np.testing.assert_array_equal(
        got["observations"][:, 0].astype(np.float64).round(4),
        columns["observations"][[0, 1, 2, 3, 5, 6, 7, 8], 0].round(4),
    )
    assert np.flatnonzero(got["timeouts"]).tolist() == [3, 7]
    assert np.flatnonzero(got["terminals"]).tolist() == [6]
    assert got["observations"].dtype == got["rewards"].dtype == np.float32


def test_single_row_gives_no_transition():
    got = qlearning_columns(recording(np.random.default_rng(0), 1), 1000)
    assert {len(column) for column in got.values()} == {0}
