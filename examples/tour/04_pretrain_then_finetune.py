"""Does pretraining on a synset accelerate cloning on the whole data?

    python examples/tour/04_pretrain_then_finetune.py hopper.safetensors

One policy is cloned on the synset and then on the whole data, another only on the whole data. Both
take the same total number of gradient steps, start from the same weights, use the same learning
rate on the whole data, and are scored after the same numbers of steps.
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
    parser.add_argument("--dataset", help="default: the dataset named in the synset's card")
    parser.add_argument("--pretraining", type=int, default=200, help="steps on the synset")
    parser.add_argument("--points", type=int, nargs="+", default=[200, 400, 800, 1600, 3200])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, few steps")
    options = parser.parse_args()
    if options.quick:
        options.pretraining, options.points, options.seeds, options.episodes = 10, [10, 20], 1, 1
    if min(options.points) < options.pretraining:
        parser.error("points must not precede the end of pretraining")

    synset = obdbench.Synset.load(options.synset)
    dataset = obdbench.load_dataset(options.dataset or synset.card["dataset"])
    points = sorted(set(options.points))
    scores = {"scratch": [], "pretrained": []}
    for seed in range(options.seeds):
        for start, curve_points in scores.items():
            curve_points.append(curve(start, synset, dataset, points, options, seed))

    print(f"{dataset.id}: mean normalized return over {options.seeds} seeds")
    print(f"{'steps':>12} " + " ".join(f"{point:>8}" for point in points))
    for start, curve_points in scores.items():
        print(
            f"{start:>12} " + " ".join(f"{value:8.1f}" for value in np.mean(curve_points, axis=0))
        )


def curve(
    start: str,
    synset: obdbench.Synset,
    dataset: obdbench.Dataset,
    points: list[int],
    options: argparse.Namespace,
    seed: int,
) -> list[float]:
    """Scores of one policy after each number of gradient steps, pretraining included."""
    standardizer, task = synset.standardizer, synset.task
    policy = initial_policy(standardizer.mean, standardizer.scale, task.action_size, seed)
    done, scores = 0, []
    if start == "pretrained":
        done = options.pretraining
        clone(policy, synset.observations, synset.actions, steps=done, seed=seed)
    for point in points:
        clone(policy, dataset.observations, dataset.actions, steps=point - done, seed=seed + point)
        done = point
        scores.append(float(score(policy, task, episodes=options.episodes, seed=seed).mean()))
    return scores


if __name__ == "__main__":
    main()
