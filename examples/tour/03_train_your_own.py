"""Train your own policy on a synset and score it as the leaderboards do.

    python examples/tour/03_train_your_own.py hopper.safetensors

The student is not part of obdbench: its architecture, optimizer and inputs (raw observations)
differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from policy import clone, initial_policy, score

import obdbench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("synset", type=Path, help="a .safetensors file, as 01_distill.py saves it")
    parser.add_argument("--steps", type=int, default=500, help="gradient steps per policy")
    parser.add_argument("--policies", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one policy, few steps")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.policies, options.episodes = 20, 1, 1

    synset = obdbench.Synset.load(options.synset)
    standardizer, task = synset.standardizer, synset.task
    means = []
    for seed in range(options.policies):
        policy = initial_policy(standardizer.mean, standardizer.scale, task.action_size, seed)
        loss = clone(policy, synset.observations, synset.actions, steps=options.steps, seed=seed)
        returns = score(policy, task, episodes=options.episodes, seed=seed)
        means.append(returns.mean())
        print(f"policy {seed}: cloning loss {loss:.4f}, normalized return {means[-1]:.1f}")
    spread = f" ± {np.std(means, ddof=1):.1f} over policies" if len(means) > 1 else ""
    print(f"{task.env_id}, {len(synset)} pairs: {np.mean(means):.1f}{spread}")


if __name__ == "__main__":
    main()
