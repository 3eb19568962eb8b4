"""A dataset's episodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.toys import make_toy_dataset

from obdbench.errors import InvalidDataError


def test_an_interrupted_episode_is_not_complete() -> None:
    """Of the episodes with a time-out only the longest are complete, or one step less."""
    plain = make_toy_dataset(500)
    terminals, timeouts = np.zeros(500, bool), np.zeros(500, bool)
    terminals[[29, 499]] = True  # 30 and 50 steps
    timeouts[[129, 228, 328, 449]] = True  # 100, 99, 100 and 121 steps
    dataset = replace(plain, terminals=terminals, timeouts=timeouts)
    sums = [
        plain.rewards[first:last].sum(dtype=np.float64) for first, last in ((0, 30), (329, 450))
    ]
    assert dataset.episode_returns()[:2].tolist() == [*np.float64(sums)]
    assert len(dataset.episode_returns()) == 3
    timeouts[449] = False
    assert len(dataset.episode_returns()) == 5


@pytest.mark.parametrize("name", ["observations", "rewards", "terminals", "next_observations"])
@pytest.mark.parametrize("column", [[[0.0] * 11] * 5, np.float32(0), np.array(["a"] * 5)])
def test_columns_must_be_arrays_of_numbers(name: str, column: Any) -> None:
    with pytest.raises(InvalidDataError, match=name):
        replace(make_toy_dataset(5), **{name: column})


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_time_outs_may_be_numbers(dtype: type) -> None:
    plain = make_toy_dataset(100)
    ends = np.arange(100) % 50 == 49
    dataset = replace(plain, terminals=np.zeros(100, dtype), timeouts=ends.astype(dtype))
    assert np.allclose(dataset.episode_returns(), plain.rewards.reshape(2, 50).sum(1), atol=1e-4)


def test_an_episode_that_ends_by_a_jump_is_separate_and_not_complete() -> None:
    plain = make_toy_dataset(6)
    following = np.roll(plain.observations, -1, axis=0)
    following[2] += 1  # the next observation of row 2 is not row 3
    dataset = replace(
        plain,
        rewards=np.float32([1, 1, 1, 10, 10, 10]),
        terminals=np.arange(6) == 5,
        next_observations=following,
    )
    assert dataset.episode_returns().tolist() == [30.0]
    marked = replace(dataset, timeouts=np.arange(6) == 2)
    assert marked.episode_returns().tolist() == [3.0, 30.0]


def test_the_rest_of_data_that_end_within_an_episode_is_not_complete() -> None:
    """A time-out in the last row is complete at the limit of other episodes or of the task."""
    plain = make_toy_dataset(1030)
    ends = {"terminals": np.arange(1030) == 29, "timeouts": np.arange(1030) == 1029}
    assert len(replace(plain, **ends).episode_returns()) == 2
    ends["terminals"] = np.arange(1030) == 31
    assert len(replace(plain, **ends).episode_returns()) == 1
    ends["timeouts"][[531, 1029]] = True  # 500 and 498 steps
    assert len(replace(plain, **ends).episode_returns()) == 2
    ends["timeouts"][[530, 531]] = True, False
    assert len(replace(plain, **ends).episode_returns()) == 3


def test_steps_after_the_last_end_belong_to_no_episode() -> None:
    plain = make_toy_dataset(120)
    assert len(plain.episode_returns()) == 2
    none = replace(plain, terminals=np.zeros(120, bool))
    assert none.episode_returns().shape == (0,)
