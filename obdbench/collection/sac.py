"""One online SAC run: the source of the embedded datasets.

Soft actor-critic (Haarnoja et al., 2018, arXiv 1812.05905) as implemented by ``sbx-rl``, run once
per environment. What stays on disk in the run's folder:

``replay.npz``
    every transition in the order in which it was collected;
``policy-<step>.safetensors``
    the actor at each evaluation (dense layers, ``float32``);
``progress.jsonl``
    one line per evaluation: step, mean return of deterministic episodes, wall time;
``resume.zip``, ``resume-buffer.pkl``
    the latest checkpoint of the learner, from which an interrupted run goes on.

The pickle among them is written and read by this module alone, on the machine that collects.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class SacSettings:
    """Settings of the collecting run; those not named are the library's defaults."""

    env_id: str
    steps: int = 200_000
    seed: int = 0
    learning_rate: float = 3e-4
    qf_learning_rate: float = 1e-3
    policy_delay: int = 2
    update_every: int = 16
    learning_starts: int = 5_000
    eval_every: int = 5_000
    eval_episodes: int = 5
    checkpoint_every: int = 25_000


def flatten_parameters(tree: Mapping[str, Any], prefix: str = "") -> dict[str, FloatArray]:
    """Flatten a nested mapping of arrays into ``{"a/b": array}``."""
    flat: dict[str, FloatArray] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat.update(flatten_parameters(value, f"{path}/"))
        else:
            flat[path] = np.asarray(value, dtype=np.float32)
    return flat


def train(settings: SacSettings, out: Path) -> None:
    """Run SAC to ``settings.steps`` environment steps, continuing from ``out`` when it can."""
    import gymnasium
    from sbx import SAC
    from stable_baselines3.common.evaluation import evaluate_policy
    from tqdm import tqdm

    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
    resume, resume_buffer = out / "resume.zip", out / "resume-buffer.pkl"
    env = gymnasium.make(settings.env_id)
    if resume.exists() and resume_buffer.exists():
        model = SAC.load(resume, env=env)
        model.load_replay_buffer(resume_buffer)
    else:
        model = SAC(
            "MlpPolicy",
            env,
            learning_rate=settings.learning_rate,
            qf_learning_rate=settings.qf_learning_rate,
            policy_delay=settings.policy_delay,
            train_freq=settings.update_every,
            gradient_steps=settings.update_every,
            learning_starts=settings.learning_starts,
            buffer_size=settings.steps + settings.update_every,
            seed=settings.seed,
        )
    eval_env = gymnasium.make(settings.env_id)
    eval_env.reset(seed=settings.seed + 10_000)
    started = time.perf_counter()
    with tqdm(total=settings.steps, initial=model.num_timesteps, unit="step") as bar:
        while model.num_timesteps < settings.steps:
            before = model.num_timesteps
            chunk = min(settings.eval_every, settings.steps - before)
            model.learn(chunk, reset_num_timesteps=False)
            step = model.num_timesteps
            mean, spread = evaluate_policy(model, eval_env, n_eval_episodes=settings.eval_episodes)
            save_policy(model, out / f"policy-{step:07d}.safetensors")
            with (out / "progress.jsonl").open("a") as log:
                seconds = round(time.perf_counter() - started, 1)
                log.write(
                    json.dumps(
                        {"step": step, "return": float(mean), "std": float(spread), "s": seconds}
                    )
                    + "\n"
                )
            if before // settings.checkpoint_every != step // settings.checkpoint_every:
                model.save(resume)
                model.save_replay_buffer(resume_buffer)
            bar.update(step - before)
            bar.set_postfix(eval_return=f"{mean:.0f}")
    save_replay(model.replay_buffer, out / "replay.npz")


def save_policy(model: Any, path: Path) -> None:
    """Write the actor's dense layers as safetensors."""
    from safetensors.numpy import save_file

    parameters = flatten_parameters(model.policy.actor_state.params["params"])
    save_file({name: np.ascontiguousarray(value) for name, value in parameters.items()}, path)


def save_replay(buffer: Any, path: Path) -> None:
    """Write the replay buffer, oldest transition first."""
    n = buffer.size()
    timeouts = buffer.timeouts[:n, 0] > 0
    np.savez_compressed(
        path,
        observations=buffer.observations[:n, 0].astype(np.float32),
        actions=buffer.actions[:n, 0].astype(np.float32),
        rewards=buffer.rewards[:n, 0].astype(np.float32),
        next_observations=buffer.next_observations[:n, 0].astype(np.float32),
        terminals=(buffer.dones[:n, 0] > 0) & ~timeouts,
        timeouts=timeouts,
    )
