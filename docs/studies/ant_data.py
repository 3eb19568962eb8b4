"""Collect the Ant data of the study `ant`: a SAC run, then episodes of its checkpoints.

Gymnasium's ``Ant-v4`` pays 1 per step for staying upright, and a short SAC run learns to stand
still. The run therefore trains with a smaller bonus and a smaller control cost, so that walking
pays early. The data are stochastic episodes in the unchanged ``Ant-v4``, in turn of each checkpoint
of the second half of the run, in D4RL's layout. The run continues when the command is given again::

    python docs/studies/ant_data.py build/ant.hdf5
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np

from obdbench.collection.actor import Actor
from obdbench.collection.recipe import FIELDS, with_timeouts
from obdbench.collection.sac import SacSettings, train
from obdbench.errors import run_script
from obdbench.io import replace_atomically
from obdbench.tasks.task import ANT

HEALTHY_REWARD, CONTROL_COST = 0.1, 0.1  # of the SAC run; 1.0 and 0.5 in Ant-v4
EVERY = 25_000  # steps between checkpoints
FIRST_SEED = 4_000_000


def make_training_environment() -> Any:
    """Ant-v4 with rewards that favor walking."""
    return gymnasium.make(
        ANT.env_id,
        healthy_reward=HEALTHY_REWARD,
        ctrl_cost_weight=CONTROL_COST,
        disable_env_checker=True,
    )


def collect(folder: Path, transitions: int) -> list[dict[str, Any]]:
    """Whole episodes, one of each checkpoint in turn."""
    checkpoints = sorted(folder.glob("policy-*.safetensors"))
    actors = [Actor.load(path) for path in checkpoints[len(checkpoints) // 2 :]]
    episodes: list[dict[str, Any]] = []
    while sum(len(episode["rewards"]) for episode in episodes) < transitions:
        actor, seed = actors[len(episodes) % len(actors)], FIRST_SEED + len(episodes)
        episodes.append(with_timeouts(actor.rollout(ANT, [seed], stochastic=True, record=True)))
    return episodes


def write_episodes(path: Path, episodes: Sequence[dict[str, Any]]) -> None:
    """Write episodes in D4RL's layout."""
    returns = [float(episode["rewards"].sum()) for episode in episodes]
    print(f"{len(returns)} episodes, mean return {np.mean(returns):.0f}, best {max(returns):.0f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["task"] = ANT.name
        for name in FIELDS:
            column = np.concatenate([episode[name] for episode in episodes])
            file.create_dataset(name, data=column, compression="gzip")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="HDF5 file to write")
    parser.add_argument("--run", type=Path, default=Path("build/ant-run"), help="SAC run")
    parser.add_argument("--steps", type=int, default=500_000, help="steps of the SAC run")
    parser.add_argument("--transitions", type=int, default=100_000)
    options = parser.parse_args(arguments)
    settings = SacSettings(
        ANT.env_id, steps=options.steps, eval_every=EVERY, eval_episodes=2, save_every=EVERY
    )
    train(ANT, settings, options.run, make_environment=make_training_environment)
    write_episodes(options.path, collect(options.run, options.transitions))


if __name__ == "__main__":
    sys.exit(run_script(main))
