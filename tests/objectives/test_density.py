"""The flow: it beats a Gaussian on what it has not seen, and is cached by checksum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.gaussian_density import gaussian_log_density
from support.toys import make_toy_dataset

from obdbench.objectives import density
from obdbench.objectives.density import FlowSettings

QUICK = FlowSettings(transforms=2, hidden=32, steps=250, batch=256)


def banana(size: int, seed: int) -> np.ndarray:
    """A curved density that no Gaussian fits."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 3))
    x[:, 1] = 0.3 * x[:, 1] + x[:, 0] ** 2
    return x.astype(np.float32)


def test_flow_beats_the_gaussian_on_held_out_states() -> None:
    train, test = banana(4000, 0), banana(1000, 1)
    flow = density.fit_flow(train, QUICK)
    gain = (
        density.evaluate_log_density(flow, test).mean() - gaussian_log_density(train, test).mean()
    )
    assert gain > 0.3


def test_same_fit_twice_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))
    dataset = make_toy_dataset(300)
    tiny = FlowSettings(transforms=1, hidden=8, steps=5, batch=32)
    first = density.log_density(dataset, tiny)
    path = density.flow_cache_path(dataset, tiny)
    assert path.is_relative_to(tmp_path)

    monkeypatch.setattr(density, "fit_flow", lambda *_: pytest.fail("fitted again"))
    assert np.array_equal(density.log_density(dataset, tiny), first)
    monkeypatch.undo()
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))

    path.write_bytes(b"damaged")
    assert np.array_equal(density.log_density(dataset, tiny), first)
    other = density.flow_cache_path(make_toy_dataset(300, seed=1), tiny)
    assert other != path


@pytest.mark.slow
@pytest.mark.parametrize("task", ["hopper", "walker2d", "halfcheetah"])
@pytest.mark.parametrize("level", ["medium-replay", "medium", "medium-expert"])
def test_flow_beats_the_gaussian_on_every_embedded_dataset(task: str, level: str) -> None:
    from obdbench.datasets.loading import load_dataset

    states = load_dataset(f"embedded/{task}-{level}-v1").states
    rows = np.random.default_rng(0).permutation(len(states))
    train, test = states[rows[2000:]], states[rows[:2000]]
    flow = density.fit_flow(train, FlowSettings())
    assert (
        density.evaluate_log_density(flow, test).mean() > gaussian_log_density(train, test).mean()
    )
