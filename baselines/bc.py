r"""Behavioural cloning on the whole data: the row ``bc-whole``.

.. math::

    \min_\theta\; \mathbb E_{(s, a) \sim D}\,
    \frac{1}{n_a} \lVert \tanh \mu_\theta(\hat s) - a \rVert^2

for the students' architecture ``mlp4``, scored as D4RL does: deterministic episodes of the policy
after its last step. Datasets of one task and all seeds train side by side, their parameters
stacked; each draws its initial weights and its batches from generators of its own, so that no run
depends on its neighbours. ``bfloat16`` is faster where the processor multiplies it natively, and
many times slower where not.

    python -m baselines.bc --dataset embedded/hopper-medium-v0 --seeds 0-4
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines import checkpoint
from baselines.rows import (
    RESULTS_FOLDER,
    deterministic_returns,
    format_result,
    parse_seeds,
    write_row,
)
from obdbench.datasets.dataset import Array, Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.errors import run_script
from obdbench.policies.networks import MLP4, Params, seeded_generator
from obdbench.results.record import Result

SAVE_EVERY = 2_000


@dataclass(frozen=True)
class Settings:
    """Everything that fixes a run but its data and its seeds. The rate falls as a cosine."""

    steps: int = 10_000
    batch: int = 256
    lr: float = 1e-3
    bfloat16: bool = False


class Cloning:
    """A stack of policies, those of the first dataset's seeds first, and their optimizer."""

    def __init__(
        self, datasets: Sequence[Dataset], seeds: Sequence[int], settings: Settings
    ) -> None:
        self.datasets, self.seeds, self.settings = datasets, seeds, settings
        self.dtype = torch.bfloat16 if settings.bfloat16 else torch.float32
        first = datasets[0]
        inits = [seeded_generator(seed, 0) for _ in datasets for seed in seeds]
        self.draws = [seeded_generator(seed, 1) for _ in datasets for seed in seeds]
        self.params = MLP4.init(inits, first.observation_size, first.action_size)
        for tensor in self.params.values():
            tensor.requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.params.values(), settings.lr, fused=True)
        self.tables = [
            (torch.from_numpy(dataset.states), torch.from_numpy(dataset.actions))
            for dataset in datasets
            for _ in seeds
        ]
        self.step, self.seconds = 0, 0.0

    def advance(self) -> Tensor:
        """One gradient step; the loss of every policy."""
        settings, pairs = self.settings, []
        for (states, actions), generator in zip(self.tables, self.draws, strict=True):
            rows = torch.randint(len(states), (settings.batch,), generator=generator)
            pairs.append((states[rows], actions[rows]))
        states, actions = (torch.stack(part) for part in zip(*pairs, strict=True))
        cast = {name: tensor.to(self.dtype) for name, tensor in self.params.items()}
        cloned = MLP4.act(cast, states.to(self.dtype)).float()
        losses = (cloned - actions).square().mean((1, 2))
        self.optimizer.zero_grad()
        losses.sum().backward()
        self.optimizer.param_groups[0]["lr"] = (
            settings.lr * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps))
        )
        self.optimizer.step()
        self.step += 1
        return losses.detach()

    @torch.no_grad()
    def returns(self, index: int, episodes: int) -> list[list[float]]:
        """Returns of one dataset's policies, a list a seed."""
        dataset, count = self.datasets[index], len(self.seeds)

        def policy(row: int) -> Any:
            own: Params = {name: tensor[row : row + 1] for name, tensor in self.params.items()}

            @torch.no_grad()
            def act(observations: Array) -> Array:
                states = torch.from_numpy(dataset.standardizer.apply(observations))
                return MLP4.act(own, states)[0].numpy()

            return act

        policies = [policy(row) for row in range(count * index, count * (index + 1))]
        return deterministic_returns(policies, dataset.task, episodes)

    def identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the interrupted one."""
        checksums = [dataset.checksum for dataset in self.datasets]
        return {"data": checksums, "seeds": list(self.seeds), **asdict(self.settings)}

    def save(self, path: Path) -> None:
        """Leave everything that changes while training."""
        state = {
            "identity": self.identity(),
            "step": self.step,
            "seconds": self.seconds,
            "params": self.params,
            "optimizer": self.optimizer.state_dict(),
            "draws": [generator.get_state() for generator in self.draws],
        }
        checkpoint.save(state, path)

    @torch.no_grad()
    def resume(self, path: Path) -> None:
        """Go on from a saved state, if there is one."""
        state = checkpoint.load(path, self.identity())
        if state is None:
            return
        self.step, self.seconds = state["step"], state["seconds"]
        self.optimizer.load_state_dict(state["optimizer"])
        for name, tensor in self.params.items():
            tensor.copy_(state["params"][name])
        for generator, saved in zip(self.draws, state["draws"], strict=True):
            generator.set_state(saved)


def train(
    datasets: Sequence[Dataset],
    seeds: Sequence[int],
    settings: Settings,
    resume: Path | None = None,
    *,
    progress: bool = True,
) -> Cloning:
    """Clone to the end, from ``resume`` on where that file exists."""
    from tqdm import tqdm

    stack = Cloning(datasets, seeds, settings)
    if resume is not None:
        stack.resume(resume)
    started = time.perf_counter() - stack.seconds
    total, desc = settings.steps, f"bc {datasets[0].task.name}"
    with tqdm(total=total, initial=stack.step, desc=desc, disable=not progress) as bar:
        while stack.step < settings.steps:
            losses = stack.advance()
            bar.update()
            if stack.step % SAVE_EVERY == 0 or stack.step == settings.steps:
                bar.set_postfix(loss=f"{losses.mean():.4f}")
                stack.seconds = time.perf_counter() - started
                if resume is not None:
                    stack.save(resume)
    return stack


def bc(
    datasets: Sequence[Dataset],
    seeds: Sequence[int],
    settings: Settings,
    out: Path,
    *,
    episodes: int = 20,
    resume: Path | None = None,
    progress: bool = True,
) -> list[Result]:
    """Train and score all seeds on datasets of one task, and write a record for each dataset."""
    stack = train(datasets, seeds, settings, resume, progress=progress)
    results = [
        write_row(
            dataset,
            "bc-whole",
            {seed: [row] for seed, row in zip(seeds, stack.returns(i, episodes), strict=True)},
            out,
            params={"batch": settings.batch, "lr": settings.lr},
            steps=settings.steps,
            seconds=stack.seconds / len(datasets),
        )
        for i, dataset in enumerate(datasets)
    ]
    if resume is not None:
        resume.unlink(missing_ok=True)
    return results


def _digest(datasets: Sequence[Dataset]) -> str:
    """A name for these datasets, so that runs beside each other keep to files of their own."""
    content = " ".join(dataset.checksum for dataset in datasets)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", nargs="+", required=True)
    parser.add_argument("--seeds", type=parse_seeds, default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--episodes", type=int, default=20, help="a seed")
    parser.add_argument(
        "--out", type=Path, default=RESULTS_FOLDER, help="folder of the suite's results"
    )
    parser.add_argument("--work", type=Path, default=Path("build/bc"), help="for resuming")
    options = parser.parse_args(arguments)
    datasets = sorted(map(load_dataset, options.dataset), key=lambda each: each.task.name)
    for task, members in groupby(datasets, key=lambda each: each.task.name):
        group = list(members)
        results = bc(
            group,
            options.seeds,
            Settings(steps=options.steps),
            options.out,
            episodes=options.episodes,
            resume=options.work / f"{options.out.name}-{task}-{_digest(group)}.pt",
        )
        for result in results:
            print(format_result(result))


if __name__ == "__main__":
    sys.exit(run_script(main))
