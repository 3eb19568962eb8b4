"""Tasks from Gymnasium environments: registration, episodes, bounds of actions, and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from support.toy_suite import SETTINGS

from obdbench import register_task
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.loading import load_dataset
from obdbench.errors import DuplicateNameError, InvalidDataError, InvalidSettingError, ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import execute, plan
from obdbench.experiments.suite import Suite
from obdbench.registry import tasks
from obdbench.reporting.grids.grouping import build_grids
from obdbench.reporting.grids.suite_results import suite_results_of
from obdbench.reporting.tables.captions import score_notes
from obdbench.tasks.action_bounds import to_environment_actions, to_unit_actions
from obdbench.tasks.rollout import run_episodes
from obdbench.tasks.task import PENDULUM, Task, get_task, normalized_return

UNIT = Box(-1.0, 1.0, (1,))


class Counter(gymnasium.Env):
    """Its reward is the action; it ends by itself at step 7 and is cut off at step 5 if told so."""

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Box(np.float32([-3.0]), np.float32([1.0]))

    def __init__(self, **changes: Any) -> None:
        vars(self).update(changes)

    def close(self) -> None:
        if hasattr(self, "close_error"):
            raise self.close_error

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.count = 0
        return np.array([seed, 0.0]), {}

    def step(self, action: np.ndarray) -> Any:
        self.count += 1
        if self.count == getattr(self, "raise_at", None):
            raise RuntimeError("first line\nsecond line")
        reward = float("nan") if self.count == getattr(self, "nan_at", None) else float(action[0])
        truncated = self.count == getattr(self, "truncate_at", None)
        return np.array([0.0, self.count]), reward, self.count == 7, truncated, {}


@pytest.fixture
def register() -> Iterator[Callable[..., Task]]:
    """Registers a task for one test and returns it."""
    names: list[str] = []

    def make(name: str, environment: Any, *references: Any, **options: Any) -> Task:
        names.append(name)
        register_task(name, environment, *references, **options)
        return get_task(name)

    yield make
    for name in names:
        tasks.unregister(name)


def constant(value: float) -> Callable[..., np.ndarray]:
    return lambda observations, _: np.full((len(observations), 1), value, np.float32)


@pytest.mark.parametrize("name", ["ant", "ant-v5", "hopper-v5", "walker2d-v5", "pendulum"])
def test_built_in_tasks_describe_their_environments(name: str) -> None:
    task = get_task(name)
    env = gymnasium.make(task.env_id)
    assert env.observation_space.shape == (task.observation_size,)
    assert env.action_space.shape == (task.action_size,)
    assert env.spec is not None
    assert env.spec.max_episode_steps == task.episode_limit
    low, high = task.action_bounds or ((-1.0,) * task.action_size, (1.0,) * task.action_size)
    np.testing.assert_array_equal((env.action_space.low, env.action_space.high), (low, high))


def test_ant_has_the_reference_returns_of_d4rl() -> None:
    assert normalized_return(get_task("ant"), [-325.6, 3879.7]).tolist() == [0.0, 100.0]


def test_pen_is_stepped_through_gymnasium_robotics() -> None:
    pytest.importorskip("gymnasium_robotics", reason="the extra robotics is not installed")
    task = get_task("pen")
    assert (task.observation_size, task.action_size, task.episode_limit) == (45, 24, 200)
    assert task.reference_returns is None
    short = replace(task, episode_limit=5)
    still = run_episodes(lambda o, _: np.zeros((len(o), 24), np.float32), short, [0, 1])
    assert np.isfinite(still.returns).all()


def test_pen_without_its_package_is_one_line() -> None:
    if find_spec("gymnasium_robotics") is not None:
        pytest.skip("gymnasium-robotics is installed")
    with pytest.raises(InvalidSettingError, match="gymnasium_robotics") as caught:
        get_task("pen")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["pendulum", "ant", "hopper-v5"])
def test_episodes_equal_those_of_gymnasium(name: str) -> None:
    task, rng = get_task(name), np.random.default_rng(0)
    gain = rng.normal(size=(task.observation_size, task.action_size)) * 0.3

    def act(observations: np.ndarray, _: Any) -> np.ndarray:
        return np.tanh(observations @ gain).astype(np.float32)

    episodes = run_episodes(act, replace(task, episode_limit=60), [3, 4])
    for seed, total, length in zip((3, 4), episodes.returns, episodes.lengths, strict=True):
        env = gymnasium.make(task.env_id)
        observation, _ = env.reset(seed=seed)
        rewards: list[float] = []
        ended = False
        while not ended and len(rewards) < 60:
            action = to_environment_actions(task, act(np.asarray(observation)[None], None))[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(float(reward))
            ended = terminated or truncated
        assert (len(rewards), sum(rewards)) == (length, pytest.approx(total))


def test_actions_are_scaled_to_the_bounds_in_one_place(register: Callable[..., Task]) -> None:
    task = register("counter", Counter, (0.0, 7.0), episode_limit=20)
    assert task.action_bounds == ((-3.0,), (1.0,))
    returns = [run_episodes(constant(a), task, [0]).returns[0] for a in (-1.0, 0.0, 1.0)]
    assert returns == [-21.0, -7.0, 7.0]
    actions = np.float32([[-3.0], [0.5], [1.0]])
    there_and_back = to_environment_actions(task, to_unit_actions(task, actions))
    np.testing.assert_allclose(there_and_back, actions, atol=1e-6)


def test_an_episode_ends_where_the_environment_cuts_it_off(register: Callable[..., Task]) -> None:
    task = register("counter", lambda: Counter(truncate_at=5), episode_limit=20)
    episodes = run_episodes(constant(1.0), task, [1, 2], record=True)
    assert episodes.lengths.tolist() == [5, 5]
    assert not episodes.columns["terminals"].any()


def test_scores_without_reference_returns_are_raw(register: Callable[..., Task]) -> None:
    task = register("counter", Counter, episode_limit=20)
    assert task.reference_returns is None
    assert normalized_return(task, [3.5]).tolist() == [3.5]


@pytest.mark.parametrize(
    "changes",
    [
        {"action_space": Discrete(3)},
        {"observation_space": Dict({"a": Box(-1, 1, (2,))})},
        {"observation_space": Box(0, 255, (8, 8, 3))},
        {"action_space": Box(-np.inf, np.inf, (1,))},
    ],
)
def test_other_spaces_are_refused(register: Callable[..., Task], changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        register("counter", lambda: Counter(**changes), episode_limit=20)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ("Nowhere-v0", {}),
        (Counter, {}),  # no time limit
        (lambda: 3, {"episode_limit": 5}),
        (lambda: 1 / 0, {"episode_limit": 5}),
    ],
)
def test_environments_that_cannot_be_used_are_one_line(
    environment: Any, options: dict[str, Any]
) -> None:
    register_task("counter", environment, **options)
    try:
        with pytest.raises(InvalidSettingError) as caught:
            get_task("counter")
    finally:
        tasks.unregister("counter")
    assert "\n" not in str(caught.value)


def test_wrong_reference_returns_and_names_in_use_are_refused() -> None:
    with pytest.raises(InvalidSettingError):
        register_task("counter", Counter, (1.0, 1.0))
    with pytest.raises(DuplicateNameError):
        register_task("hopper", "Hopper-v5")


def test_a_second_module_cannot_replace_a_task() -> None:
    source = "register_task('counter', 'Pendulum-v1', episode_limit={limit})"
    for module in ("first", "first", "second"):
        code, names = source.format(limit=len(module)), {"__name__": module}
        if module == "first":
            exec(code, names | {"register_task": register_task})
            continue
        with pytest.raises(DuplicateNameError, match="first"):
            exec(code, names | {"register_task": register_task})
    tasks.unregister("counter")


def test_an_episode_limit_below_one_is_refused() -> None:
    for limit in (0, -5):
        with pytest.raises(InvalidSettingError, match=str(limit)):
            register_task("counter", Counter, episode_limit=limit)
    assert "counter" not in tasks


def test_an_environment_that_cannot_be_closed_is_used(register: Callable[..., Task]) -> None:
    error = RuntimeError("no display")
    task = register("counter", lambda: Counter(close_error=error), episode_limit=20)
    assert task.episode_limit == 20
    changes = {"raise_at": 3, "close_error": error}
    failing = register("failing", lambda: Counter(**changes), episode_limit=20)
    with pytest.raises(InvalidDataError, match="step 3"):
        run_episodes(constant(1.0), failing, [5])


@pytest.mark.parametrize("changes", [{"raise_at": 3}, {"nan_at": 3}])
def test_an_environment_that_fails_in_an_episode_is_one_line(
    register: Callable[..., Task], changes: dict[str, Any]
) -> None:
    task = register("counter", lambda: Counter(**changes), episode_limit=20)
    with pytest.raises(InvalidDataError, match="counter") as caught:
        run_episodes(constant(1.0), task, [5, 6])
    assert "\n" not in str(caught.value)
    if "raise_at" in changes:
        assert "step 3" in str(caught.value)
        assert "seed 5" in str(caught.value)


def random_columns(task: Task = PENDULUM, rows: int = 300) -> dict[str, np.ndarray]:
    rng, bound = np.random.default_rng(0), 1.0 if task.action_bounds is None else 2.0
    return {
        "observations": rng.normal(size=(rows, task.observation_size)),
        "actions": rng.uniform(-bound, bound, (rows, task.action_size)),
        "rewards": -rng.random(rows),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 50 == 49,
    }


def write_pendulum(path: Path, task: str | None) -> None:
    if path.suffix == ".npz":
        np.savez(path, **random_columns(), **({} if task is None else {"task": task}))
        return
    with h5py.File(path, "w") as file:
        for name, column in random_columns().items():
            file[name] = column
        if task is not None:
            file.attrs["task"] = task


@pytest.mark.parametrize("suffix", ["npz", "hdf5"])
def test_a_file_names_its_task(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"hopper-mine.{suffix}"
    write_pendulum(path, "pendulum")
    dataset = load_dataset(f"file:{path}")
    assert dataset.task == PENDULUM
    np.testing.assert_allclose(dataset.actions[:9], random_columns()["actions"][:9] / 2, atol=1e-6)
    write_pendulum(path, "nowhere")
    with pytest.raises(ObdError, match="nowhere"):
        load_dataset(f"file:{path}")
    assert load_dataset(f"file:{path}#task=pendulum").task == PENDULUM
    assert load_dataset(f"file:{path}#pendulum").task == PENDULUM


def test_the_longest_task_name_in_a_file_name_counts() -> None:
    names = ["hopper-v5-x.npz", "hopper-v55.npz", "antelope.npz", "ant_medium.npz", "Pendulum.npz"]
    expected = ["hopper-v5", "hopper", None, "ant", "pendulum"]
    assert [DatasetId(f"file:{name}").task_name for name in names] == expected


@pytest.mark.usefixtures("in_process")
def test_a_run_on_a_task_without_references_has_raw_scores_and_tables_say_so(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ant-v5.npz"
    np.savez(path, **random_columns(get_task("ant-v5")))
    suite = Suite(
        name="toy",
        datasets=(f"file:{path}",),
        objectives=("dbc",),
        protocols=({"name": "default", "params": {"policies": 1, "episodes": 1}},),
        seeds=(0,),
        settings=SETTINGS,
    )
    summary = execute(plan(suite, ExecutionConfig(out=tmp_path / "results", workers=1)))
    (result,) = summary.results.values()
    assert (result.status, result.error) == ("ok", None)
    assert result.environment is not None
    assert result.environment.env_id == "Ant-v5"
    point = result.points[0]
    assert point.normalized_return == pytest.approx(np.mean(point.returns))
    (grid,) = build_grids(suite_results_of([result]))
    assert any("Ant-v5" in note and "raw" in note for note in score_notes(grid))
