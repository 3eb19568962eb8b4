"""Measure the returns of random policies and write ``obdbench/tasks/reference_returns.json``.

The expert returns are published by the authors of the agents; this program keeps them with their
source. The random policy draws actions uniformly within the bounds of the environment, as D4RL's
does, over one episode per seed from 0::

    python tools/reference_returns.py --episodes 1000
    python tools/reference_returns.py --policy sac.zip hopper-v5  # prints the return of a policy
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from obdbench.errors import run_script
from obdbench.tasks.rollout import deterministic_returns, run_episodes
from obdbench.tasks.task import Task, get_task
from obdbench.teachers.policy_file import load_policy_file

FILE = Path(__file__).parents[1] / "obdbench" / "tasks" / "reference_returns.json"
MODEL_CARD = "deterministic SAC agent, model card farama-minari/{}-SAC-expert (Minari)"
ZOO = (
    "deterministic SAC agent over 750 episodes, benchmark.md of rl-baselines3-zoo, "
    "commit 0088472b8cb622732bdbc4aa3d0d0abde86c67ed"
)
EXPERTS = {  # the published mean return
    "hopper-v5": (4098.17, MODEL_CARD.format("Hopper-v5")),
    "walker2d-v5": (6956.61, MODEL_CARD.format("Walker2d-v5")),
    "halfcheetah-v5": (11448.22, MODEL_CARD.format("HalfCheetah-v5")),
    "pendulum": (-156.995, ZOO),
}
BATCH = 50  # episodes that run at once


def random_returns(task: Task, episodes: int) -> np.ndarray[Any, Any]:
    """Returns of uniform actions, one per seed; the actions of a seed have a generator each."""
    returns: list[float] = []
    for first in range(0, episodes, BATCH):
        seeds = range(first, min(first + BATCH, episodes))
        generators = [np.random.default_rng(seed) for seed in seeds]

        def act(_: Any, slots: Any, generators: Sequence[np.random.Generator] = generators) -> Any:
            return np.stack([generators[s].uniform(-1, 1, task.action_size) for s in slots])

        returns += run_episodes(act, task, seeds).returns.tolist()
    return np.array(returns)


def summarize(returns: np.ndarray[Any, Any]) -> dict[str, float | int]:
    """Mean return with its standard error."""
    error = returns.std(ddof=1) / np.sqrt(len(returns))
    return {
        "return": round(float(returns.mean()), 3),
        "standard_error": round(float(error), 3),
        "episodes": len(returns),
    }


def measure_policy(path: Path, task: Task, episodes: int) -> dict[str, float | int]:
    """The return of the deterministic policy in a file."""
    policy = load_policy_file(path, "")
    return summarize(deterministic_returns([policy.act], task, episodes)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(EXPERTS))
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--policy", type=Path)
    options = parser.parse_args(arguments)
    content = json.loads(FILE.read_text(encoding="utf-8"))
    for name in options.tasks:
        task = get_task(name)
        if options.policy is not None:
            print(name, measure_policy(options.policy, task, options.episodes))
            continue
        expert, source = EXPERTS[name]
        content[name] = {
            "environment": task.env_id,
            "random": summarize(random_returns(task, options.episodes)),
            "expert": {"return": expert, "source": source},
        }
        print(name, content[name])
        text = json.dumps(dict(sorted(content.items())), indent=1)
        FILE.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
