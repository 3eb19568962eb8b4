"""Distill a synset, compare its score with randomly selected pairs, and save it.

    python examples/tour/01_distill.py --out hopper.safetensors

The default takes minutes on two cores. ``--quick`` takes seconds, with settings that are too small
for a good synset.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import obdbench
from obdbench.objectives.objective import make_objective


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="embedded/hopper-medium-replay-v1")
    parser.add_argument("--objective", default="av-pbc")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("synset.safetensors"))
    parser.add_argument("--quick", action="store_true", help="tiny settings")
    options = parser.parse_args()
    preset = "tiny" if options.quick else options.preset
    pairs = 32 if options.quick else options.pairs
    evaluation_size = {"policies": 1, "episodes": 1} if options.quick else {}

    dataset = obdbench.load_dataset(options.dataset)
    objective = make_objective(options.objective)
    teacher = obdbench.load_teacher(dataset.id) if objective.uses_teacher else None
    print(
        f"{dataset.id}: {len(dataset):,} transitions, teacher {teacher.id if teacher else 'none'}"
    )

    selected = obdbench.distill(dataset, None, "random", preset=preset, pairs=pairs)
    synset = obdbench.distill(
        dataset, teacher, objective, preset=preset, pairs=pairs, seed=options.seed
    )
    for name, pairs_of in (("random selection", selected), (objective.name, synset)):
        score = obdbench.evaluate(pairs_of, seed=options.seed, **evaluation_size).normalized_return
        print(f"{name:<18} {len(pairs_of)} pairs, normalized return {score:.1f}")

    behavior = dataset.episode_returns().mean()
    print(f"mean return of the dataset's episodes: {behavior:.0f}")
    print(f"saved {synset.save(options.out)} and its card {options.out.with_suffix('.json')}")


if __name__ == "__main__":
    main()
