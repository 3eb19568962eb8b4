"""D4RL's recipe, on a SAC run folder made up here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from obdbench.collection import recipe
from obdbench.collection.recipe import (
    Run,
    build,
    collect,
    load_collection,
    save_collection,
    subsample,
)
from obdbench.datasets import embedded
from obdbench.errors import InvalidDataError
from obdbench.tasks.task import TASKS

HOPPER = TASKS["hopper"]
MEDIUM = 1078.1
FIELDS = recipe.FIELDS


def write_log(folder: Path, means: list[float], every: int = 20_000) -> None:
    lines = [json.dumps({"step": every * (i + 1), "return": mean}) for i, mean in enumerate(means)]
    (folder / "progress.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "settings.json").write_text(json.dumps({"env_id": "Hopper-v4", "seed": 0}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of six evaluations, its policies random, its replay a string of short episodes."""
    folder = tmp_path / "hopper"
    folder.mkdir()
    write_log(folder, [100.0, 200.0, 2500.0, 1500.0, 2600.0, 3000.0])
    rng = np.random.default_rng(0)
    for step in range(20_000, 140_000, 20_000):
        shapes = {"Dense_0": (11, 8), "Dense_1": (8, 8), "Dense_2": (8, 3), "Dense_3": (8, 3)}
        tensors = {}
        for name, shape in shapes.items():
            tensors[f"{name}/kernel"] = rng.normal(size=shape).astype(np.float32) / 3
            tensors[f"{name}/bias"] = rng.normal(size=shape[1]).astype(np.float32)
        save_file(tensors, folder / f"policy-{step:07d}.safetensors")
    total = 120_000
    observations = rng.normal(size=(total, 11)).astype(np.float32)
    following = np.roll(observations, -1, axis=0)
    terminals, timeouts = np.zeros(total, bool), np.zeros(total, bool)
    terminals[99::200], timeouts[199::200] = True, True
    following[terminals | timeouts] += 1
    following[1050] += 1  # the run was interrupted here, within an episode
    np.savez(
        folder / "replay.npz",
        observations=observations,
        actions=rng.uniform(-1, 1, (total, 3)).astype(np.float32),
        rewards=rng.normal(size=total).astype(np.float32),
        next_observations=following,
        terminals=terminals,
        timeouts=timeouts,
    )
    return folder


def test_the_medium_level_needs_the_mean_of_five(folder: Path) -> None:
    write_log(folder, [0, 0, 0, 0, 5000, 300, 1100, 3000])
    medium = Run.read(folder, HOPPER).medium()
    assert medium.step == 140_000  # at 120,000 the mean is still too low
    assert medium.mean == 1100


def test_of_the_five_the_lowest_above_the_level_is_medium(folder: Path) -> None:
    write_log(folder, [0, 2000, 1200, 900, 3000, 1100])
    assert Run.read(folder, HOPPER).medium().mean == 1200


def test_the_medium_level_waits_until_there_is_enough_replay(folder: Path) -> None:
    write_log(folder, [2000.0] * 12, every=5_000)
    assert Run.read(folder, HOPPER).medium().step == 50_000


def test_a_run_that_never_got_there_says_so(folder: Path) -> None:
    write_log(folder, [MEDIUM - 1] * 10)
    with pytest.raises(InvalidDataError, match="never reached a third"):
        Run.read(folder, HOPPER).medium()


def test_an_evaluation_logged_twice_counts_once(folder: Path) -> None:
    with (folder / "progress.jsonl").open("a") as log:
        log.write(json.dumps({"step": 120_000, "return": 10.0}) + "\n")
    run = Run.read(folder, HOPPER)
    assert [each.step for each in run.evaluations] == list(range(20_000, 140_000, 20_000))
    assert run.best().mean == 2600.0


def test_the_policy_is_the_saved_network(folder: Path) -> None:
    from safetensors.numpy import load_file

    run = Run.read(folder, HOPPER)
    tensors = load_file(folder / "policy-0080000.safetensors")
    observations = np.random.default_rng(1).normal(size=(5, 11)).astype(np.float32)
    x = observations
    for i in range(2):
        x = np.maximum(x @ tensors[f"Dense_{i}/kernel"] + tensors[f"Dense_{i}/bias"], 0)
    mean = x @ tensors["Dense_2/kernel"] + tensors["Dense_2/bias"]
    std = np.exp(np.clip(x @ tensors["Dense_3/kernel"] + tensors["Dense_3/bias"], -20, 2))
    teacher = run.policy(run.medium())
    assert teacher.act(observations) == pytest.approx(np.tanh(mean), abs=1e-5)
    assert teacher.distribution(observations)[1].numpy() == pytest.approx(std, rel=1e-4)


def test_medium_replay_is_the_buffer_up_to_the_medium_level(folder: Path) -> None:
    run = Run.read(folder, HOPPER)
    assert run.medium().step == 80_000
    dataset = collect(run, "hopper-medium-replay-v0")
    with np.load(folder / "replay.npz") as replay:
        expected = replay["observations"][:80_000]
    kept = np.delete(expected, np.s_[1000:1100], axis=0)  # without the episode broken off
    assert np.array_equal(dataset.observations, kept)


def test_rollouts_are_whole_episodes_and_repeat(folder: Path) -> None:
    run = Run.read(folder, HOPPER)
    first = collect(run, "hopper-medium-v0", transitions=1500, progress=False)
    again = collect(run, "hopper-medium-v0", transitions=1500, progress=False)
    assert first.checksum == again.checksum
    ends = np.flatnonzero(first.terminals | first.timeouts)
    assert len(first) >= 1500 > ends[-2] + 1
    assert ends[-1] == len(first) - 1
    inner = np.setdiff1d(np.arange(len(first)), ends)
    assert np.array_equal(first.next_observations[inner], first.observations[inner + 1])
    assert not np.array_equal(first.next_observations[ends[:-1]], first.observations[ends[:-1] + 1])


def test_medium_expert_is_half_of_each(folder: Path) -> None:
    run = Run.read(folder, HOPPER)
    dataset = collect(run, "hopper-medium-expert-v0", transitions=2000, progress=False)
    first, second = dataset.card["parts"]
    assert first + second == len(dataset)
    assert min(first, second) >= 1000
    medium = collect(run, "hopper-medium-v0", transitions=first, progress=False)
    assert np.array_equal(dataset.observations[:first], medium.observations)
    assert dataset.card["policies"]["expert"]["step"] == run.best().step == 120_000


def test_a_subsample_holds_whole_episodes_of_both_parts(folder: Path) -> None:
    run = Run.read(folder, HOPPER)
    whole = collect(run, "hopper-medium-expert-v0", transitions=4000, progress=False)
    part = subsample(whole, 1000)
    rows = {row.tobytes(): index for index, row in enumerate(whole.observations)}
    places = np.array([rows[row.tobytes()] for row in part.observations])
    assert (np.diff(places) > 0).all()
    half = whole.card["parts"][0]
    assert (places < half).sum() >= 500
    assert (places >= half).sum() >= 500
    starts = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    ends = np.append(starts[1:], len(places)) - 1
    for edge in (whole.terminals | whole.timeouts)[places[ends]]:
        assert edge


def test_build_writes_the_same_verified_files_twice(folder: Path, tmp_path: Path) -> None:
    name = "hopper-medium-replay-v0"
    paths = [
        build(f"embedded/{name}", run_folder=folder, out=tmp_path / out, progress=False)
        for out in ("a", "b")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].with_suffix(".json").read_text() == paths[1].with_suffix(".json").read_text()
    dataset = embedded.load(name, tmp_path / "a")
    assert len(dataset) == dataset.card["committed"]["transitions"] >= 50_000
    assert dataset.card["full_collection"]["transitions"] == 79_900
    full = load_collection(tmp_path / "full" / f"{name}.npz")
    assert len(full) == 79_900
    assert full.card["policies"]["medium"]["step"] == 80_000


def test_a_collection_survives_the_disk(folder: Path, tmp_path: Path) -> None:
    before = collect(Run.read(folder, HOPPER), "hopper-medium-replay-v0")
    save_collection(before, tmp_path / "x.npz")
    after = load_collection(tmp_path / "x.npz")
    assert after.checksum == before.checksum
    assert after.card == before.card
    assert after.id == "embedded/hopper-medium-replay-v0"
    for field in FIELDS:
        assert np.array_equal(getattr(after, field), getattr(before, field))
