"""D4RL's recipe, on a SAC run folder made up here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from obdbench.cli.data import app
from obdbench.collection import recipe
from obdbench.collection.recipe import (
    FIELDS,
    Run,
    build,
    collect,
    load_collection,
    save_collection,
    subsample,
)
from obdbench.collection.sac import SacSettings
from obdbench.datasets import embedded
from obdbench.errors import InvalidDataError, UnknownNameError
from obdbench.tasks.task import TASKS, Task

HOPPER = TASKS["hopper"]
MEDIUM = 1422.0  # D4RL's mean return
REPLAY = 467.0
STEPS = range(20_000, 180_001, 20_000)


def write_log(folder: Path, means: list[float], std: float = 0.0) -> None:
    entries = [
        {"step": step, "stochastic": mean, "stochastic_std": std}
        for step, mean in zip(STEPS, means, strict=False)
    ]
    (folder / "progress.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n")
    steps = entries[-1]["step"] if entries else 0
    settings = {"env_id": "Hopper-v4", "seed": 0, "eval_episodes": 10, "steps": steps}
    (folder / "settings.json").write_text(json.dumps(settings))


def write_replay(folder: Path, total: int, rewards: np.ndarray) -> None:
    """Episodes of 100 steps that end in terminals and time-outs in turn, one interrupted."""
    rng = np.random.default_rng(0)
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
        rewards=rewards.astype(np.float32),
        next_observations=following,
        terminals=terminals,
        timeouts=timeouts,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of nine checkpoints: policies are random, episodes in the replay buffer return 467.

    The log does not describe these policies, so that candidates are not evaluated again.
    """
    monkeypatch.setattr(recipe, "CANDIDATES", 0)
    folder = tmp_path / "hopper"
    folder.mkdir()
    write_log(folder, [100, 200, 300, MEDIUM, 1000, 1400, 1600, 2600, 2500])
    rng = np.random.default_rng(0)
    for step in STEPS:
        shapes = {"Dense_0": (11, 8), "Dense_1": (8, 8), "Dense_2": (8, 3), "Dense_3": (8, 3)}
        tensors = {}
        for name, shape in shapes.items():
            tensors[f"{name}/kernel"] = rng.normal(size=shape).astype(np.float32) / 3
            tensors[f"{name}/bias"] = rng.normal(size=shape[1]).astype(np.float32)
        save_file(tensors, folder / f"policy-{step:07d}.safetensors")
    write_replay(folder, 180_000, np.full(180_000, REPLAY / 100))
    return folder


def test_medium_is_nearest_to_the_published_return_once_the_replay_buffer_is_large_enough(
    folder: Path,
) -> None:
    medium = Run.read(folder, HOPPER).medium()
    assert (medium.step, medium.mean) == (120_000, 1400)  # at 80,000 the buffer is too small


def test_an_uncertain_evaluation_counts_as_farther_away(folder: Path) -> None:
    lines = (folder / "progress.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    entries[5]["stochastic_std"], entries[6]["stochastic"] = 1500.0, 1500.0
    (folder / "progress.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    assert Run.read(folder, HOPPER).medium().step == 140_000


def test_medium_is_also_near_to_the_published_return_of_the_replay_buffer(folder: Path) -> None:
    rewards = np.concatenate([np.zeros(120_000), np.full(60_000, 30.0)])
    write_replay(folder, 180_000, rewards)  # the mean return is 0, then 429, 750 and 1000
    write_log(folder, [0, 0, 0, 0, 0, MEDIUM, 1500, 1400, MEDIUM])
    assert Run.read(folder, HOPPER).medium().step == 140_000


def test_a_run_below_the_medium_return_is_refused(folder: Path) -> None:
    write_log(folder, [MEDIUM - 1] * 9)
    with pytest.raises(InvalidDataError, match="not reached"):
        Run.read(folder, HOPPER).medium()


def test_a_run_with_a_small_replay_buffer_is_refused(folder: Path) -> None:
    write_replay(folder, 90_000, np.zeros(90_000))
    with pytest.raises(InvalidDataError, match="90,000 transitions"):
        Run.read(folder, HOPPER).medium()


def test_a_run_of_another_task_and_no_run_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"Hopper-v4.*Walker2d-v4"):
        Run.read(folder, TASKS["walker2d"])
    with pytest.raises(InvalidDataError, match="not the folder of a SAC run"):
        Run.read(tmp_path, HOPPER)


def test_a_run_without_checkpoints_or_environment_is_refused(folder: Path) -> None:
    log = (folder / "progress.jsonl").read_text()
    (folder / "progress.jsonl").write_text("")
    with pytest.raises(InvalidDataError, match="empty"):
        Run.read(folder, HOPPER)
    (folder / "progress.jsonl").write_text(log)
    (folder / "settings.json").write_text(json.dumps({"eval_episodes": 10}))
    with pytest.raises(InvalidDataError, match="env_id"):
        Run.read(folder, HOPPER)


def test_a_checkpoint_logged_twice_counts_once(folder: Path) -> None:
    with (folder / "progress.jsonl").open("a") as log:
        log.write(json.dumps({"step": 160_000, "stochastic": 10.0, "stochastic_std": 0}) + "\n")
    run = Run.read(folder, HOPPER)
    assert [checkpoint.step for checkpoint in run.checkpoints] == list(STEPS)
    assert run.best().mean == 2500


def test_the_policy_is_the_saved_network(folder: Path) -> None:
    from safetensors.numpy import load_file

    run = Run.read(folder, HOPPER)
    tensors = load_file(folder / "policy-0120000.safetensors")
    observations = np.random.default_rng(1).normal(size=(5, 11)).astype(np.float32)
    x = observations
    for i in range(2):
        x = np.maximum(x @ tensors[f"Dense_{i}/kernel"] + tensors[f"Dense_{i}/bias"], 0)
    mean = x @ tensors["Dense_2/kernel"] + tensors["Dense_2/bias"]
    std = np.exp(np.clip(x @ tensors["Dense_3/kernel"] + tensors["Dense_3/bias"], -20, 2))
    actor = run.actor(run.medium())
    assert actor.act(observations) == pytest.approx(np.tanh(mean), abs=1e-5)
    noise = np.random.default_rng(2).standard_normal(mean.shape)
    sample = actor.act(observations, np.random.default_rng(2))
    assert sample == pytest.approx(np.tanh(mean + std * noise), abs=1e-5)


def test_medium_replay_is_the_buffer_up_to_the_medium_level(folder: Path) -> None:
    run = Run.read(folder, HOPPER)
    dataset = collect(run, "hopper-medium-replay-v1")
    with np.load(folder / "replay.npz") as replay:
        expected = replay["observations"][:120_000]
    uninterrupted = np.delete(expected, np.s_[1000:1100], axis=0)  # without the interrupted episode
    assert np.array_equal(dataset.observations, uninterrupted)


def test_rollouts_are_whole_episodes_and_repeat(folder: Path) -> None:
    run = Run.read(folder, HOPPER)
    first = collect(run, "hopper-medium-v1", transitions=1500, progress=False)
    again = collect(run, "hopper-medium-v1", transitions=1500, progress=False)
    assert first.checksum == again.checksum
    ends = np.flatnonzero(first.terminals | first.timeouts)
    assert len(first) >= 1500 > ends[-2] + 1
    assert ends[-1] == len(first) - 1
    inner = np.setdiff1d(np.arange(len(first)), ends)
    assert np.array_equal(first.next_observations[inner], first.observations[inner + 1])
    assert not np.array_equal(first.next_observations[ends[:-1]], first.observations[ends[:-1] + 1])


def test_medium_expert_is_half_of_each(folder: Path) -> None:
    run = Run.read(folder, HOPPER)
    dataset = collect(run, "hopper-medium-expert-v1", transitions=2000, progress=False)
    first, second = dataset.card["parts"]
    assert first + second == len(dataset)
    assert min(first, second) >= 1000
    medium = collect(run, "hopper-medium-v1", transitions=first, progress=False)
    assert np.array_equal(dataset.observations[:first], medium.observations)
    assert dataset.card["policies"]["expert"]["step"] == run.best().step == 160_000


def test_a_subsample_holds_whole_episodes_of_both_parts(folder: Path) -> None:
    run = Run.read(folder, HOPPER)
    whole = collect(run, "hopper-medium-expert-v1", transitions=4000, progress=False)
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


def test_build_writes_equal_verified_files_twice(folder: Path, tmp_path: Path) -> None:
    name = "hopper-medium-replay-v1"
    paths = [
        build(f"embedded/{name}", run_folder=folder, out=tmp_path / out, progress=False)
        for out in ("a", "b")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].with_suffix(".json").read_text() == paths[1].with_suffix(".json").read_text()
    dataset = embedded.load(name, tmp_path / "a")
    assert len(dataset) == dataset.card["committed"]["transitions"] >= 100_000
    assert dataset.card["full_collection"]["transitions"] == 119_900
    assert dataset.card["d4rl"]["return_mean"] == REPLAY
    full = load_collection(tmp_path / "a" / "full" / f"{name}.npz")
    assert len(full) == 119_900
    assert full.card["policies"]["medium"]["step"] == 120_000


def test_build_continues_an_interrupted_run(folder: Path, tmp_path: Path, monkeypatch) -> None:
    class StartedAgainError(Exception):
        pass

    def train(task: Task, settings: SacSettings, where: Path, **_: object) -> None:
        assert where == folder
        raise StartedAgainError(settings)

    monkeypatch.setattr(recipe, "train", train)
    last = max(checkpoint.step for checkpoint in Run.read(folder, HOPPER).checkpoints)
    options = {"run_folder": folder, "out": tmp_path, "progress": False}
    for steps in (last, last + 10_000):
        settings = SacSettings("Hopper-v4", steps=steps)
        (folder / "settings.json").write_text(json.dumps(asdict(settings)))
        if steps == last:
            assert build("embedded/hopper-medium-replay-v1", **options).exists()
        else:
            with pytest.raises(StartedAgainError) as caught:
                build("embedded/hopper-medium-replay-v1", **options)
            assert caught.value.args == (settings,)


def test_a_collection_survives_the_disk(folder: Path, tmp_path: Path) -> None:
    before = collect(Run.read(folder, HOPPER), "hopper-medium-replay-v1")
    save_collection(before, tmp_path / "x.npz")
    after = load_collection(tmp_path / "x.npz")
    assert after.checksum == before.checksum
    assert after.card == before.card
    assert after.id == "embedded/hopper-medium-replay-v1"
    for field in FIELDS:
        assert np.array_equal(getattr(after, field), getattr(before, field))


def test_only_the_sets_of_the_recipe_are_built(folder: Path) -> None:
    with pytest.raises(UnknownNameError):
        build("d4rl/hopper-medium-v2", run_folder=folder)


def test_verify_judges_the_returns_of_packed_files(folder: Path, tmp_path: Path) -> None:
    for name in ("medium-replay", "medium"):
        build(
            f"embedded/hopper-{name}-v1",
            run_folder=folder,
            out=tmp_path,
            transitions=1000,
            progress=False,
        )
    arguments = ["verify", "--folder", str(tmp_path)]
    good = CliRunner().invoke(app, [*arguments, "embedded/hopper-medium-replay-v1"])
    assert (good.exit_code, good.stderr) == (0, "")
    assert "mean return: +0.0 points" in good.stdout.replace("-0.0", "+0.0")
    bad = CliRunner().invoke(app, [*arguments, "embedded/hopper-medium-v1"])
    assert bad.exit_code == 1
    assert "differs from D4RL's" in bad.stderr


def test_candidates_are_evaluated_over_more_episodes_before_the_choice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "CANDIDATES", 2)
    monkeypatch.setattr(recipe, "CANDIDATE_EPISODES", 12)
    run = Run.read(folder, HOPPER)
    candidates = {*run.nearest_to_medium(run.checkpoints)[:2], *run.checkpoints[-2:]}
    refined = run.with_candidates_evaluated(progress=False)
    assert {candidate.episodes for candidate in refined.candidates} == {12}
    evaluated = {candidate.step: candidate.mean for candidate in refined.candidates}
    assert evaluated.keys() == {checkpoint.step for checkpoint in candidates}
    seeds = range(recipe.CANDIDATE_SEEDS, recipe.CANDIDATE_SEEDS + 12)
    for checkpoint in candidates:
        episodes = run.actor(checkpoint).rollout(HOPPER, seeds, stochastic=True)
        assert evaluated[checkpoint.step] == episodes.returns.mean()
    assert refined.medium().step in evaluated  # although random policies are far from medium
    assert refined.best().step in evaluated
    assert refined.checkpoints == run.checkpoints
    log = (folder / "progress.jsonl").read_text()
    assert refined.with_candidates_evaluated(progress=False) == refined
    assert (folder / "progress.jsonl").read_text() == log


def test_the_choice_is_among_the_checkpoints_with_more_episodes(folder: Path) -> None:
    with (folder / "progress.jsonl").open("a") as log:
        for step, mean in ((160_000, 2000.0), (140_000, 1300.0)):
            entry = {"step": step, "stochastic": mean, "stochastic_std": 0.0, "episodes": 100}
            log.write(json.dumps(entry) + "\n")
    run = Run.read(folder, HOPPER)
    assert (run.medium().mean, run.best().mean) == (1300, 2000)
    assert run.medium().episodes == run.best().episodes == 100
    with (folder / "progress.jsonl").open("a") as log:  # the training went on from an older state
        log.write(json.dumps({"step": 160_000, "stochastic": 9.0, "stochastic_std": 0.0}) + "\n")
    run = Run.read(folder, HOPPER)
    assert [candidate.step for candidate in run.candidates] == [140_000]
    assert run.checkpoints[-2].mean == 9.0
