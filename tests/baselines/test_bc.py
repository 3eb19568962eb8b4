"""BC on the whole data and the behavior row, on data made up here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.paths import ROOT

from baselines import bc, behavior, offline_rl
from baselines.bc import CloningRun, Settings
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError, run_script
from obdbench.results.record import Result, read_json
from obdbench.tasks.task import TASKS, normalized_return
from obdbench.teachers.teacher import Teacher

HOPPER = TASKS["hopper"]
TINY = Settings(steps=6, batch=16)


def toy(size: int = 400, seed: int = 0) -> Dataset:
    """Actions are a smooth function of the state; an episode lasts 20 steps."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(size, 11)).astype(np.float32)
    actions = np.tanh(observations[:, :3] - 0.5 * observations[:, 3:6]).astype(np.float32)
    terminals, timeouts = np.zeros(size, bool), np.zeros(size, bool)
    terminals[19::40], timeouts[39::40] = True, True
    rewards = rng.normal(size=size).astype(np.float32)
    return Dataset(
        f"file:toy-{seed}.npz", HOPPER, observations, actions, rewards, terminals, None, timeouts
    )


def advance(stack: CloningRun, steps: int) -> torch.Tensor:
    for _ in range(steps):
        losses = stack.advance()
    return losses


def test_it_learns_the_actions_of_the_data() -> None:
    stack = CloningRun([toy()], [0, 1], Settings(steps=300, batch=64))
    before = advance(stack, 1)
    after = advance(stack, 299)
    assert (after < 0.05 * before).all()


def test_a_run_does_not_depend_on_its_neighbors() -> None:
    together = CloningRun([toy(seed=1), toy(seed=2)], [0, 3], TINY)
    alone = CloningRun([toy(seed=2)], [3], TINY)
    assert float(advance(together, 6)[3]) == pytest.approx(float(advance(alone, 6)[0]), rel=1e-5)
    for name, tensor in alone.params.items():
        assert torch.allclose(tensor[0], together.params[name][3], rtol=1e-4, atol=1e-6)


def test_seeds_differ_and_repeat() -> None:
    first = advance(CloningRun([toy()], [0, 1], TINY), 6)
    again = advance(CloningRun([toy()], [0, 1], TINY), 6)
    assert torch.equal(first, again)
    assert first[0] != first[1]


def test_an_interrupted_run_ends_where_the_other_does(tmp_path: Path) -> None:
    straight, broken, resumed = (CloningRun([toy()], [0, 1], TINY) for _ in range(3))
    advance(straight, 6)
    advance(broken, 4)
    broken.save(tmp_path / "bc.pt")
    resumed.resume(tmp_path / "bc.pt")
    advance(resumed, 2)
    for name, tensor in straight.params.items():
        assert torch.equal(tensor, resumed.params[name])
    with pytest.raises(InvalidDataError, match="differs in seeds"):
        CloningRun([toy()], [0, 2], TINY).resume(tmp_path / "bc.pt")


def test_its_row_holds_the_returns_of_every_seed(tmp_path: Path) -> None:
    out = tmp_path / "results" / "toys"
    datasets = [toy(seed=1), toy(seed=2)]
    results = bc.run_bc(
        datasets, [0, 4], TINY, out, episodes=3, resume=tmp_path / "bc.pt", progress=False
    )
    assert not (tmp_path / "bc.pt").exists()
    for dataset, result in zip(datasets, results, strict=True):
        stored = read_json(Result, out / f"{result.key}.json")
        assert stored == result
        assert stored.spec.objective == "bc-whole"
        assert stored.suite == "toys"
        assert stored.dataset is not None
        assert stored.dataset.checksum == dataset.checksum
        assert stored.environment is not None
        assert stored.environment.env_id == "Hopper-v4"
        assert [(point.seed, point.step) for point in stored.points] == [(0, 6), (4, 6)]
        for point in stored.points:
            assert len(point.returns[0]) == 3
            expected = normalized_return(HOPPER, point.returns[0]).mean()
            assert point.normalized_return == pytest.approx(expected)
    again = bc.run_bc(datasets[:1], [0, 4], TINY, out, episodes=3, progress=False)[0]
    assert again.points == results[0].points


def test_policies_can_clone_the_teacher_instead_of_the_data(
    toy_teacher: Teacher, tmp_path: Path
) -> None:
    dataset = toy()
    relabeled = replace(
        dataset, actions=toy_teacher.columns(dataset.observations)["teacher_actions"]
    )
    expected = advance(CloningRun([relabeled], [0, 1], TINY), 6)
    run = CloningRun([dataset], [0, 1], TINY, [toy_teacher])
    assert torch.equal(advance(run, 6), expected)
    run.save(tmp_path / "bc.pt")
    with pytest.raises(InvalidDataError, match="differs in data"):
        CloningRun([dataset], [0, 1], TINY).resume(tmp_path / "bc.pt")
    (result,) = bc.run_bc(
        [dataset], [0], TINY, tmp_path, teachers=[toy_teacher], episodes=1, progress=False
    )
    assert result.spec.objective == "pbc-whole"
    assert result.teacher is not None
    assert result.teacher.checksum == toy_teacher.checksum


def test_the_behavior_row_is_the_mean_of_the_episodes(tmp_path: Path) -> None:
    dataset = toy()
    result = behavior.behavior(dataset, tmp_path / "toys")
    expected = [dataset.rewards[20 * i : 20 * i + 20].sum(dtype=np.float64) for i in range(20)]
    assert result.points[0].returns[0] == pytest.approx(expected)
    assert result.points[0].normalized_return == pytest.approx(
        normalized_return(HOPPER, expected).mean()
    )
    assert read_json(Result, tmp_path / "toys" / f"{result.key}.json") == result


def test_the_command_line_scores_a_shipped_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "embedded/hopper-medium-replay-v1"
    behavior.main(["--dataset", name, "--out", str(tmp_path / "embedded")])
    (path,) = (tmp_path / "embedded").glob("*.json")
    score = read_json(Result, path).points[0].normalized_return
    assert score == pytest.approx(
        load_dataset(name).card["committed"]["normalized_return_mean"], abs=0.01
    )
    assert capsys.readouterr().out.strip() == f"{name}  behavior  {score:.1f}"


def test_the_behavior_row_needs_a_complete_episode(tmp_path: Path) -> None:
    dataset = replace(toy(), terminals=np.zeros(400, bool), timeouts=None)
    with pytest.raises(InvalidDataError, match="no complete episode"):
        behavior.behavior(dataset, tmp_path)


@pytest.mark.parametrize("script", [behavior, bc, offline_rl], ids=lambda each: each.__name__)
def test_an_unknown_dataset_is_one_line(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_script(lambda: script.main(["--dataset", "embedded/hoper-medium-v1"]))
    output, errors = capsys.readouterr()
    assert (code, output) == (2, "")
    assert "Did you mean embedded/hopper-medium-v1" in errors
    assert len(errors.splitlines()) == 1


def test_a_script_ends_with_the_exit_code_of_its_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "baselines.behavior", "--dataset", "embedded/hoper-medium-v1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
