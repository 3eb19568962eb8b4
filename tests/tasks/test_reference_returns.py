"""The reference returns of tasks follow from their file, and the tool measures random policies."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
from support.paths import ROOT

from obdbench.tasks.task import REFERENCES, Task, get_task, normalized_return
from tools import reference_returns


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_file_defines_the_scale_of_scores(name: str) -> None:
    task, entry = get_task(name), REFERENCES[name]
    returns = [entry["random"]["return"], entry["expert"]["return"]]
    np.testing.assert_allclose(normalized_return(task, returns), [0.0, 100.0])
    assert entry["environment"] == task.env_id
    assert entry["random"]["episodes"] >= 100
    expert, source = reference_returns.EXPERTS[name]
    assert (entry["expert"]["return"], entry["expert"]["source"]) == (expert, source)


def test_page_shows_the_file() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for name, entry in REFERENCES.items():
        random, expert = entry["random"], entry["expert"]
        row = f"| `{name}` | {random['return']} ± {random['standard_error']} | {expert['return']} |"
        assert row in page


def test_random_policy_is_uniform_and_repeatable() -> None:
    task = Task("pendulum", "Pendulum-v1", None, None, 3, 1, 200, ((-2.0,), (2.0,)))
    env, rng = gymnasium.make(task.env_id), np.random.default_rng(1)
    env.reset(seed=1)
    total = 0.0
    for _ in range(200):
        action = 2.0 * rng.uniform(-1, 1, 1)
        total += float(env.step(action.astype(np.float32))[1])
    measured = reference_returns.random_returns(task, 2)
    assert measured[1] == pytest.approx(total, rel=1e-5)
    assert json.dumps(reference_returns.summarize(measured))
