"""One online SAC run per task: the origin of the embedded datasets.

A run alternates ``update_every`` environment steps with as many gradient steps of
:mod:`obdbench.collection.soft_actor_critic`. Its folder holds:

``policy-<step>.safetensors``
    the actor at each checkpoint (dense layers, ``float32``);
``progress.jsonl``
    per checkpoint: step, mean and standard deviation of the returns of stochastic and of
    deterministic episodes, seconds since the start;
``replay.npz``
    every transition in the order of collection;
``learner.safetensors``
    parameters, optimizer states and random key, from which an interrupted run continues together
    with ``replay.npz``, in a new episode;
``settings.json``
    the settings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from obdbench.collection.actor import Actor
from obdbench.datasets.dataset import Array
from obdbench.errors import InvalidSettingError, MissingExtraError
from obdbench.io import replace_atomically, write_atomically
from obdbench.progress_bar import progress_bar
from obdbench.tasks.action_bounds import to_environment_actions, to_unit_actions
from obdbench.tasks.gymnasium_environment import make_from
from obdbench.tasks.task import Task


@dataclass(frozen=True)
class SacSettings:
    """Settings of a run."""

    env_id: str
    steps: int = 1_000_000  # of the environment, and of the critics
    seed: int = 0
    actor_lr: float = 3e-4  # of the temperature too
    critic_lr: float = 3e-4
    policy_delay: int = 2  # critic steps per actor step
    discount: float = 0.99
    target_rate: float = 0.005
    batch_size: int = 128
    random_steps: int = 10_000  # uniform actions at the start, without gradient steps
    update_every: int = 64
    eval_every: int = 10_000
    eval_episodes: int = 10  # stochastic; half as many deterministic
    save_every: int = 50_000


class ReplayBuffer:
    """Every transition of a run, oldest first."""

    def __init__(self, capacity: int, observation_dim: int, action_dim: int) -> None:
        self.size = 0
        self.columns: dict[str, Array] = {
            "observations": np.empty((capacity, observation_dim), np.float32),
            "actions": np.empty((capacity, action_dim), np.float32),
            "rewards": np.empty(capacity, np.float32),
            "next_observations": np.empty((capacity, observation_dim), np.float32),
            "terminals": np.empty(capacity, bool),
            "timeouts": np.empty(capacity, bool),
        }

    def add(self, *transition: Any) -> None:
        """Append one transition, its fields in the order of the columns."""
        for column, value in zip(self.columns.values(), transition, strict=True):
            column[self.size] = value
        self.size += 1

    def sample(self, batches: int, batch_size: int, rng: np.random.Generator) -> dict[str, Array]:
        """Uniform draws with replacement, as arrays of shape ``(batches, batch_size, ...)``."""
        rows = rng.integers(self.size, size=(batches, batch_size))
        sampled = {name: column[rows] for name, column in self.columns.items()}
        del sampled["timeouts"]
        return sampled | {"terminals": sampled["terminals"].astype(np.float32)}

    def save(self, path: Path) -> None:
        """Write the transitions."""
        with replace_atomically(path) as temporary, temporary.open("wb") as file:
            columns: dict[str, Any] = {
                name: column[: self.size] for name, column in self.columns.items()
            }
            np.savez(file, **columns)

    def load(self, path: Path) -> None:
        """Replace the contents by the transitions of a file."""
        with np.load(path, allow_pickle=False) as file:
            self.size = len(file["rewards"])
            for name, column in self.columns.items():
                column[: self.size] = file[name]


class Learner:
    """The networks of a run with their optimizers."""

    def __init__(self, task: Task, settings: SacSettings) -> None:
        try:
            from obdbench.collection import soft_actor_critic
        except ImportError as error:
            raise MissingExtraError("Training SAC", "collect") from error
        self._sac = soft_actor_critic
        self._hyperparameters = soft_actor_critic.Hyperparameters(
            settings.actor_lr,
            settings.critic_lr,
            settings.policy_delay,
            settings.discount,
            settings.target_rate,
            task.action_size,
        )
        self._state = soft_actor_critic.init_learner(
            settings.seed, task.observation_size, self._hyperparameters
        )

    def update(self, batches: Mapping[str, Array]) -> None:
        """One gradient step per batch."""
        self._state = self._sac.update(
            self._state, self._sac.Batch(**batches), self._hyperparameters
        )

    def actor(self) -> Actor:
        """The current policy."""
        return Actor({name: np.array(value) for name, value in self._state.actor.items()})

    def save(self, path: Path) -> None:
        """Write the state."""
        leaves = self._sac.to_arrays(self._state)
        write_atomically(path, save({str(index): leaf for index, leaf in enumerate(leaves)}))

    def load(self, path: Path) -> None:
        """Replace the state by that of a file."""
        leaves = load_file(path)
        self._state = self._sac.from_arrays(
            self._state, [leaves[str(index)] for index in range(len(leaves))]
        )


def train(
    task: Task,
    settings: SacSettings,
    folder: Path,
    *,
    make_environment: Callable[[], Any] | None = None,
    progress: bool = True,
) -> None:
    """Run SAC to ``settings.steps`` environment steps, resuming from the last saved state.

    ``make_environment`` creates the environment to train in if it is not that of the task, for
    example one with other rewards; checkpoints are evaluated in the task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    is_continued = (folder / "learner.safetensors").exists()
    if is_continued:
        check_continuation(settings, folder)
    learner = Learner(task, settings)
    replay = ReplayBuffer(settings.steps, task.observation_size, task.action_size)
    if is_continued:
        learner.load(folder / "learner.safetensors")
        replay.load(folder / "replay.npz")
    write_atomically(folder / "settings.json", json.dumps(asdict(settings), indent=1) + "\n")
    rng = np.random.default_rng([settings.seed, replay.size])
    environment = make_from(task.name, make_environment or task.make_environment or settings.env_id)
    environment.action_space.seed(int(rng.integers(2**31)))
    observation, _ = environment.reset(seed=int(rng.integers(2**31)))
    actor, started = learner.actor(), time.perf_counter()
    with progress_bar(
        total=settings.steps, initial=replay.size, unit="step", progress=progress
    ) as bar:
        while replay.size < settings.steps:
            random = replay.size < settings.random_steps
            observation, done = step_environment(
                environment, task, observation, replay, None if random else actor, rng
            )
            if done:
                observation, _ = environment.reset()
            if replay.size % settings.update_every == 0 and not random:
                learner.update(replay.sample(settings.update_every, settings.batch_size, rng))
                actor = learner.actor()
            if replay.size % settings.eval_every == 0:
                entry = record_checkpoint(actor, task, replay.size, settings, folder, started)
                bar.set_postfix(stochastic_return=f"{entry['stochastic']:.0f}", refresh=False)
                bar.update(replay.size - bar.n)
            if replay.size % settings.save_every == 0 or replay.size == settings.steps:
                replay.save(folder / "replay.npz")
                learner.save(folder / "learner.safetensors")


def check_continuation(settings: SacSettings, folder: Path) -> None:
    """Raise an error if a run would continue with fewer steps or with other settings."""
    saved, given = json.loads((folder / "settings.json").read_text()), asdict(settings)
    if saved["steps"] > settings.steps:
        raise InvalidSettingError(
            f"The run in {folder} was started with {saved['steps']:,} steps.",
            "Give at least as many, or choose another folder.",
        )
    differing = [name for name in saved if name != "steps" and saved[name] != given.get(name)]
    if differing:
        name = differing[0]
        raise InvalidSettingError(
            f"The run in {folder} has {name}={saved[name]!r}, not {given.get(name)!r}.",
            "Give the settings of the run, or choose another folder.",
        )


def step_environment(
    environment: Any,
    task: Task,
    observation: Array,
    replay: ReplayBuffer,
    actor: Actor | None,
    rng: np.random.Generator,
) -> tuple[Array, bool]:
    """Add one step to the buffer; returns the next observation, and whether the episode ended."""
    if actor is None:
        action = to_unit_actions(task, environment.action_space.sample())
    else:
        action = actor.act(observation[None], rng)[0]
    following, reward, terminated, truncated, _ = environment.step(
        to_environment_actions(task, action)
    )
    timeout = truncated and not terminated
    replay.add(observation, action, reward, following, terminated, timeout)
    return following, terminated or truncated


def record_checkpoint(
    actor: Actor, task: Task, step: int, settings: SacSettings, folder: Path, started: float
) -> dict[str, float]:
    """Save and evaluate the policy; the entry of the log."""
    write_atomically(folder / f"policy-{step:07d}.safetensors", save(dict(actor.parameters)))
    entry = evaluate_actor(actor, task, step, settings.eval_episodes)
    entry["s"] = round(time.perf_counter() - started, 1)
    with (folder / "progress.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    return entry


def evaluate_actor(actor: Actor, task: Task, step: int, episodes: int) -> dict[str, float]:
    """Mean and standard deviation of stochastic and deterministic returns, for the log."""
    entry: dict[str, float] = {"step": step}
    for kind, count in (("stochastic", episodes), ("deterministic", max(episodes // 2, 1))):
        seeds = range(step, step + count)
        returns = actor.rollout(task, seeds, stochastic=kind == "stochastic").returns
        entry |= {kind: float(returns.mean()), f"{kind}_std": float(returns.std())}
    return entry
