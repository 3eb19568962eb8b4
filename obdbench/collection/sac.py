"""One online SAC run per task: the origin of the embedded datasets.

Soft actor-critic (Haarnoja et al., 2018, arXiv 1812.05905) as implemented by ``sbx-rl``. A run's
folder holds:

``policy-<step>.safetensors``
    the actor at each checkpoint (dense layers, ``float32``);
``progress.jsonl``
    per checkpoint: step, mean and standard deviation of the returns of stochastic and of
    deterministic episodes, seconds since the start;
``replay.npz``
    every transition in the order of collection;
``resume.zip``
    the learner, from which an interrupted run continues together with ``replay.npz``;
``settings.json``
    the settings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from safetensors.numpy import save
from tqdm import tqdm

from obdbench.collection.actor import Actor
from obdbench.datasets.dataset import Array
from obdbench.errors import MissingExtraError
from obdbench.io import replace_atomically, write_atomically
from obdbench.tasks.task import Task

REPLAY_COLUMNS = ("observations", "actions", "rewards", "next_observations")


@dataclass(frozen=True)
class SacSettings:
    """Settings of a run; all others are the defaults of the library."""

    env_id: str
    steps: int = 2_000_000
    seed: int = 0
    learning_rate: float = 3e-4
    qf_learning_rate: float = 3e-4
    policy_delay: int = 2
    update_every: int = 64  # environment steps, followed by as many gradient steps
    batch_size: int = 128
    learning_starts: int = 10_000
    eval_every: int = 10_000
    eval_episodes: int = 10  # stochastic; half as many deterministic
    save_every: int = 100_000


def train(task: Task, settings: SacSettings, folder: Path, *, progress: bool = True) -> None:
    """Run SAC to ``settings.steps`` environment steps, resuming from the last saved state."""
    try:
        from sbx import SAC
        from stable_baselines3.common.callbacks import BaseCallback
    except ImportError as error:
        raise MissingExtraError("Training SAC", "collect") from error

    class Checkpoints(BaseCallback):  # type: ignore[misc]
        """Evaluates and saves the run while it goes on."""

        def __init__(self) -> None:
            super().__init__()
            self.started = time.perf_counter()
            self.bar = tqdm(
                total=settings.steps, initial=model.num_timesteps, unit="step", disable=not progress
            )

        def _on_step(self) -> bool:
            step = self.model.num_timesteps
            if step % settings.eval_every == 0:
                parameters = flatten_parameters(self.model.policy.actor_state.params["params"])
                write_atomically(folder / f"policy-{step:07d}.safetensors", save(parameters))
                entry = evaluate_actor(Actor(parameters), task, step, settings.eval_episodes)
                entry["s"] = round(time.perf_counter() - self.started, 1)
                with (folder / "progress.jsonl").open("a") as log:
                    log.write(json.dumps(entry) + "\n")
                self.bar.update(step - self.bar.n)
                self.bar.set_postfix(stochastic_return=f"{entry['stochastic']:.0f}")
            return True

        def _on_rollout_start(self) -> None:
            """Save between rollouts, when every transition is in the replay buffer."""
            step, previous = self.num_timesteps, self.num_timesteps - settings.update_every
            if step and step // settings.save_every > previous // settings.save_every:
                save_run(self.model, folder)

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "settings.json", json.dumps(asdict(settings), indent=1) + "\n")
    env = gymnasium.make(settings.env_id)
    buffer_size = settings.steps + settings.update_every  # never full
    if (folder / "resume.zip").exists():
        model = SAC.load(folder / "resume.zip", env=env, buffer_size=buffer_size)
        if model.replay_buffer is None:
            model._setup_model()
        load_replay(model.replay_buffer, folder / "replay.npz")
    else:
        model = SAC(
            "MlpPolicy",
            env,
            learning_rate=settings.learning_rate,
            qf_learning_rate=settings.qf_learning_rate,
            policy_delay=settings.policy_delay,
            train_freq=settings.update_every,
            gradient_steps=settings.update_every,
            batch_size=settings.batch_size,
            learning_starts=settings.learning_starts,
            buffer_size=buffer_size,
            seed=settings.seed,
        )
    remaining = settings.steps - model.num_timesteps
    if remaining > 0:
        model.learn(remaining, callback=Checkpoints(), reset_num_timesteps=False)
        save_run(model, folder)


def flatten_parameters(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Array]:
    """Flatten a nested mapping of arrays into ``{"a/b": array}``."""
    flat: dict[str, Array] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten_parameters(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = np.ascontiguousarray(np.asarray(value, dtype=np.float32))
    return flat


def evaluate_actor(actor: Actor, task: Task, step: int, episodes: int) -> dict[str, float]:
    """Mean and standard deviation of stochastic and deterministic returns, for the log."""
    entry: dict[str, float] = {"step": step}
    for kind, count in (("stochastic", episodes), ("deterministic", max(episodes // 2, 1))):
        seeds = range(step, step + count)
        returns = actor.rollout(task, seeds, stochastic=kind == "stochastic").returns
        entry |= {kind: float(returns.mean()), f"{kind}_std": float(returns.std())}
    return entry


def save_run(model: Any, folder: Path) -> None:
    """Save the replay buffer, then the learner."""
    save_replay(model.replay_buffer, folder / "replay.npz")
    with replace_atomically(folder / "resume.zip") as temporary, temporary.open("wb") as file:
        model.save(file)


def save_replay(buffer: Any, path: Path) -> None:
    """Save the transitions of a replay buffer that has never been full, oldest first."""
    size = buffer.size()
    timeouts = buffer.timeouts[:size, 0] > 0
    columns = {name: getattr(buffer, name)[:size, 0].astype(np.float32) for name in REPLAY_COLUMNS}
    terminals = (buffer.dones[:size, 0] > 0) & ~timeouts
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **columns, terminals=terminals, timeouts=timeouts)


def load_replay(buffer: Any, path: Path) -> None:
    """Fill an empty replay buffer with the transitions of a file."""
    with np.load(path, allow_pickle=False) as file:
        size = len(file["rewards"])
        for name in REPLAY_COLUMNS:
            getattr(buffer, name)[:size, 0] = file[name][:size]
        buffer.timeouts[:size, 0] = file["timeouts"][:size]
        buffer.dones[:size, 0] = (file["terminals"] | file["timeouts"])[:size]
    buffer.pos = size
