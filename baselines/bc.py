r"""Behavioral cloning on the whole data: the rows ``bc-whole`` and ``pbc-whole``.

.. math::

    \min_\theta\; \mathbb E_{(s, a) \sim D}\,
    \frac{1}{n_a} \lVert \tanh \mu_\theta(\hat s) - a \rVert^2

for the students' architecture ``mlp4``, scored as D4RL does: deterministic episodes of the policy
after its last step. For ``pbc-whole``, ``a`` is the teacher's action on ``s`` instead of the
recorded one. The two rows minimize the objectives DBC and PBC over policies instead of synsets. All
seeds and all datasets of one task train together with stacked parameters. Each run has its own
generators of initial weights and batches, so that runs are independent.

    python -m baselines.bc --dataset embedded/hopper-medium-v1 --seeds 0-4 --labels teacher
"""

from __future__ import annotations

import argparse
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

from baselines.rows import (
    RESULTS_FOLDER,
    format_result,
    write_row,
)
from obdbench.datasets.dataset import Array, Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.errors import run_script
from obdbench.experiments.suite import parse_seeds
from obdbench.offline_rl.trainer import state_name
from obdbench.policies.networks import MLP4, Params, seeded_generator
from obdbench.progress_bar import progress_bar
from obdbench.results.record import Result
from obdbench.tasks.rollout import deterministic_returns
from obdbench.teachers.loading import load_teacher
from obdbench.teachers.teacher import Teacher
from obdbench.training_state import save_state, saved_state

SAVE_EVERY = 2_000
ROWS = {"data": "bc-whole", "teacher": "pbc-whole"}  # by whose actions are cloned


@dataclass(frozen=True)
class Settings:
    """Settings of a run besides data and seeds. The learning rate follows a cosine to zero."""

    steps: int = 10_000
    batch: int = 256
    lr: float = 1e-3


class CloningRun:
    """A run of policies, ordered by dataset and then by seed, and their optimizer.

    They clone the actions of ``teachers``, one for each dataset, or those of the data without any.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        seeds: Sequence[int],
        settings: Settings,
        teachers: Sequence[Teacher] = (),
    ) -> None:
        self.datasets, self.seeds, self.settings = datasets, seeds, settings
        first = datasets[0]
        init_generators = [seeded_generator(seed, 0) for _ in datasets for seed in seeds]
        self.batch_generators = [seeded_generator(seed, 1) for _ in datasets for seed in seeds]
        self.params = MLP4.init(init_generators, first.observation_size, first.action_size)
        for tensor in self.params.values():
            tensor.requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.params.values(), settings.lr, fused=True)
        self.teachers = teachers
        labels = [dataset.actions for dataset in datasets]
        if teachers:
            labels = [
                teacher.columns(dataset.observations)["teacher_actions"]
                for dataset, teacher in zip(datasets, teachers, strict=True)
            ]
        self.tables = [
            (torch.from_numpy(dataset.states), torch.from_numpy(actions))
            for dataset, actions in zip(datasets, labels, strict=True)
            for _ in seeds
        ]
        self.step, self.seconds = 0, 0.0

    def advance(self) -> Tensor:
        """Take one gradient step and return the loss of each policy."""
        settings, pairs = self.settings, []
        for (states, actions), generator in zip(self.tables, self.batch_generators, strict=True):
            rows = torch.randint(len(states), (settings.batch,), generator=generator)
            pairs.append((states[rows], actions[rows]))
        states, actions = (torch.stack(part) for part in zip(*pairs, strict=True))
        losses = (MLP4.act(self.params, states) - actions).square().mean((1, 2))
        self.optimizer.zero_grad()
        torch.autograd.backward(losses.sum())
        self.optimizer.param_groups[0]["lr"] = (
            settings.lr * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps))
        )
        self.optimizer.step()
        self.step += 1
        return losses.detach()

    @torch.no_grad()
    def returns(self, index: int, episodes: int) -> Array:
        """Returns of the policies of one dataset, shape (seed, episode)."""
        dataset, count = self.datasets[index], len(self.seeds)

        def policy(row: int) -> Any:
            params: Params = {name: tensor[row : row + 1] for name, tensor in self.params.items()}

            def act(observations: Array) -> Array:
                states = torch.from_numpy(dataset.standardizer.apply(observations))
                return MLP4.act(params, states)[0].numpy()

            return act

        policies = [policy(row) for row in range(count * index, count * (index + 1))]
        return deterministic_returns(policies, dataset.task, episodes)

    def identity(self) -> dict[str, Any]:
        """Data, teachers, seeds and settings, which must match when a run is resumed."""
        checksums = [dataset.checksum for dataset in self.datasets]
        checksums += [teacher.checksum for teacher in self.teachers]
        return {"data": checksums, "seeds": list(self.seeds), **asdict(self.settings)}

    def save(self, path: Path) -> None:
        """Save the state of the training."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "params": self.params,
            "optimizer": self.optimizer.state_dict(),
            "batch_generators": [generator.get_state() for generator in self.batch_generators],
        }
        save_state(path, self.identity(), state)

    @torch.no_grad()
    def resume(self, path: Path) -> None:
        """Restore a saved state if the file exists."""
        with saved_state(path, self.identity()) as state:
            if state is None:
                return
            self.step, self.seconds = state["step"], state["seconds"]
            self.optimizer.load_state_dict(state["optimizer"])
            for name, tensor in self.params.items():
                tensor.copy_(state["params"][name])
            saved_generators = state["batch_generators"]
            for generator, saved in zip(self.batch_generators, saved_generators, strict=True):
                generator.set_state(saved)


def train(
    datasets: Sequence[Dataset],
    seeds: Sequence[int],
    settings: Settings,
    resume: Path | None = None,
    *,
    teachers: Sequence[Teacher] = (),
    progress: bool = True,
) -> CloningRun:
    """Train for all steps, and continue from the file ``resume`` if it exists."""
    run = CloningRun(datasets, seeds, settings, teachers)
    if resume is not None:
        run.resume(resume)
    started = time.perf_counter() - run.seconds
    total, desc = settings.steps, f"bc {datasets[0].task.name}"
    with progress_bar(total=total, initial=run.step, desc=desc, progress=progress) as bar:
        while run.step < settings.steps:
            losses = run.advance()
            bar.update()
            if run.step % SAVE_EVERY == 0 or run.step == settings.steps:
                bar.set_postfix(loss=f"{losses.mean():.4f}", refresh=False)
                run.seconds = time.perf_counter() - started
                if resume is not None:
                    run.save(resume)
    return run


def run_bc(
    datasets: Sequence[Dataset],
    seeds: Sequence[int],
    settings: Settings,
    out: Path,
    *,
    teachers: Sequence[Teacher] = (),
    episodes: int = 20,
    resume: Path | None = None,
    progress: bool = True,
) -> list[Result]:
    """Train and score all seeds on datasets of one task, and write a record for each dataset."""
    run = train(datasets, seeds, settings, resume, teachers=teachers, progress=progress)
    results = [
        write_row(
            dataset,
            ROWS["teacher" if teachers else "data"],
            {seed: row[None] for seed, row in zip(seeds, run.returns(i, episodes), strict=True)},
            out,
            params={"batch": settings.batch, "lr": settings.lr},
            steps=settings.steps,
            seconds=run.seconds / len(datasets),
            teacher=teachers[i] if teachers else None,
        )
        for i, dataset in enumerate(datasets)
    ]
    if resume is not None:
        resume.unlink(missing_ok=True)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", nargs="+", action="extend", required=True)
    parser.add_argument("--seeds", type=parse_seeds, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--labels",
        choices=list(ROWS),
        default="data",
        help="whose actions are cloned: the row bc-whole or pbc-whole",
    )
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--episodes", type=int, default=20, help="episodes per seed")
    parser.add_argument(
        "--out", type=Path, default=RESULTS_FOLDER, help="folder of the suite's results"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/bc"), help="folder of training states"
    )
    options = parser.parse_args(arguments)
    datasets = sorted(map(load_dataset, options.dataset), key=lambda each: each.task.name)
    for task, members in groupby(datasets, key=lambda each: each.task.name):
        group = list(members)
        results = run_bc(
            group,
            options.seeds,
            Settings(steps=options.steps),
            options.out,
            teachers=[load_teacher(each.id) for each in group if options.labels == "teacher"],
            episodes=options.episodes,
            resume=options.work
            / f"{options.out.name}-{ROWS[options.labels]}-{task}-{state_name(group)}.pt",
        )
        for result in results:
            print(format_result(result))


if __name__ == "__main__":
    sys.exit(run_script(main))
