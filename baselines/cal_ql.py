r"""Cal-QL on the whole data: the teachers of the embedded datasets, and the row ``cal-ql-whole``.

Calibrated conservative Q-learning (Nakamoto et al., 2023, arXiv 2303.05479) trains two critics by

.. math::

    \min_{Q_i}\; \tfrac12\,\mathbb E\big[(Q_i(s, a) - r - \gamma \min_j \bar Q_j(s', a'))^2\big]
    + \alpha\,\mathbb E\Big[\log\!\sum_{\tilde a} e^{\tilde Q_i(s, \tilde a)} - Q_i(s, a)\Big],

where :math:`\tilde a` are actions drawn uniformly, from :math:`\pi(\cdot|s)` and from
:math:`\pi(\cdot|s')`, each with its importance weight, and where the policy's are not pushed below
what the behaviour earned: :math:`\tilde Q_i = \max(Q_i, V^\mu(s))`, with the data's discounted
return from :math:`s` on as :math:`V^\mu`. The actor maximizes
:math:`\mathbb E_\pi[\min_i Q_i - \eta \log\pi]` with :math:`\eta` tuned to an entropy target.

It is trained for thousands of steps, not for a million, and departs from the paper where that asks
for it. *Warm-up*: the critics first regress on the returns :math:`V^\mu`, the actor on the actions.
*Anchoring*: the targets keep a share of :math:`V^\mu` and stay within its range over the data, so
that errors are not bootstrapped into large ones. *Cloning*: the squared distance of the
deterministic action to the data's stays in the actor's loss (Fujimoto & Gu, 2021, arXiv
2106.06860), rows counting by :math:`e^{p z}` with z the standardized return-to-go (after Peng et
al., 2019, arXiv 1910.00177; p is zero but for halfcheetah). *Choice*: of the policies
scored every 500 steps the best is the teacher; its card also tells what the last one scored.

And it is made quick: datasets of one task train side by side, their parameters stacked; products
are taken in bfloat16 where asked for (faster where the processor multiplies it natively, many times
slower where not); the penalty, which costs the most, is taken over a part of each batch. Values
are learned in units in which a dataset's mean absolute return-to-go is ten.

    python -m baselines.cal_ql --dataset embedded/hopper-medium-v0 embedded/hopper-medium-expert-v0
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines import checkpoint
from baselines.offline import Batch, Replay, collected
from baselines.publish import layers, publish, teacher_row
from baselines.rows import RESULTS_FOLDER, deterministic_returns, format_result
from baselines.squashed import Noise, sample
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.embedded import FILES, known_name
from obdbench.errors import run_script
from obdbench.policies.networks import (
    MLP4,
    Params,
    orthogonal_matrices,
    seeded_generator,
    stacked_linear,
)
from obdbench.tasks.task import normalized_return
from obdbench.teachers.teacher import Teacher

CRITICS = 2
CRITIC_WIDTH = 256
SELECTION_SEED = 10_000
TASKS: dict[str, dict[str, Any]] = {  # found by trying a few
    "hopper": {"cloning": 0.3},
    "walker2d": {"cloning": 1.5},
    "halfcheetah": {"cloning": 20.0, "preference": 2.0, "warmup": 4_000, "actor_lr": 1e-3},
}
STACKS = ("actor", "critics", "targets", "average", "best_actor", "best_critics")


@dataclass(frozen=True)
class Settings:
    """Everything that fixes a run but its data. The rates fall as a cosine in its second half."""

    steps: int = 6_000
    warmup: int = 1_500
    batch: int = 256
    discount: float = 0.99
    target_rate: float = 0.01
    actor_lr: float = 3e-4
    critic_lr: float = 5e-4
    temperature_lr: float = 1e-3
    conservatism: float = 0.1
    cloning: float = 1.5
    preference: float = 0.0
    anchoring: float = 0.1
    samples: int = 3
    penalized: int = 64
    averaging: float = 0.001
    bfloat16: bool = False
    seed: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """In which products are taken."""
        return torch.bfloat16 if self.bfloat16 else torch.float32


def critic_parameters(datasets: int, inputs: int, seed: int) -> Params:
    """Two critics a dataset, one after the other in the stack."""
    sizes = [inputs, CRITIC_WIDTH, CRITIC_WIDTH, 1]
    generator = seeded_generator(seed, 1)
    stack = CRITICS * datasets
    params: Params = {}
    for index, (columns, rows) in enumerate(pairwise(sizes)):
        drawn = torch.randn(stack, max(rows, columns), min(rows, columns), generator=generator)
        params[f"w{index}"] = orthogonal_matrices(drawn, rows, columns)
        params[f"b{index}"] = torch.zeros(stack, rows)
    return params


def values(params: Params, states: Tensor, actions: Tensor, dtype: torch.dtype) -> Tensor:
    """Critics' estimates, (datasets, critics, rows)."""
    inputs = torch.cat([states, actions], dim=-1).to(dtype)
    x = inputs.repeat_interleave(CRITICS, dim=0)
    cast = {name: tensor.to(dtype) for name, tensor in params.items()}
    for index in range(2):
        x = torch.relu(stacked_linear(cast, index, x))
    estimates = stacked_linear(params, 2, x.float()).squeeze(-1)
    return estimates.unflatten(0, (-1, CRITICS))


def policy(params: Params, states: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation before the tanh, (datasets, rows, action)."""
    cast = {name: tensor.to(dtype) for name, tensor in params.items()}
    mean, log_std = MLP4.apply(cast, states.to(dtype))
    return mean.float(), log_std.float()


def distance(mean: Tensor, batch: Batch, preference: float) -> Tensor:
    """Squared distance to the data's actions, rows of a high return counting for more."""
    returns = batch.returns
    spread = returns.std(-1, keepdim=True).clamp_min(1e-6)
    standard = (returns - returns.mean(-1, keepdim=True)) / spread
    weights = torch.softmax(preference * standard, dim=-1) * returns.shape[-1]
    return (weights * (torch.tanh(mean) - batch.actions).square().mean(-1)).mean(-1)


def warmup_loss(
    actor: Params, critics: Params, batch: Batch, settings: Settings
) -> tuple[Tensor, dict[str, Tensor]]:
    """Regression of the actor on the actions, of the critics on the returns."""
    dtype = settings.dtype
    mean, _ = policy(actor, batch.states, dtype)
    cloning = distance(mean, batch, settings.preference)
    estimates = values(critics, batch.states, batch.actions, dtype)
    regression = 0.5 * (estimates - batch.returns.unsqueeze(1)).square().mean((1, 2))
    total = cloning.sum() + CRITICS * regression.sum()
    return total, {"cloning": cloning.detach(), "td": regression.detach()}


def cal_ql_loss(
    actor: Params,
    critics: Params,
    targets: Params,
    log_temperature: Tensor,
    batch: Batch,
    noise: Noise,
    settings: Settings,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses of critics, actor and temperature in one sum: their gradients do not mix."""
    dtype, count = settings.dtype, settings.penalized
    mean, log_std = policy(actor, batch.states, dtype)
    with torch.no_grad():
        next_mean, next_log_std = policy(actor, batch.next_states, dtype)
        next_actions, _ = sample(next_mean, next_log_std, noise.following)
        future = values(targets, batch.next_states, next_actions, dtype).amin(1)
        goal = batch.rewards + settings.discount * batch.continues * future
        goal = goal.clamp(batch.lowest, batch.highest)
        goal = goal + settings.anchoring * (batch.returns - goal)
        here = sample(mean[:, None, :count], log_std[:, None, :count], noise.here)
        there = sample(next_mean[:, None, :count], next_log_std[:, None, :count], noise.there)

    taken = values(critics, batch.states, batch.actions, dtype)
    td = 0.5 * (taken - goal.unsqueeze(1)).square().mean(-1).sum(-1)

    proposals = torch.cat([noise.uniform, here[0], there[0]], dim=1)
    repeated = batch.states[:, None, :count].expand(-1, proposals.shape[1], -1, -1)
    estimates = values(critics, repeated.flatten(1, 2), proposals.flatten(1, 2), dtype)
    uniform, of_policy = estimates.reshape(*estimates.shape[:2], -1, count).split(
        [settings.samples, 2 * settings.samples], dim=2
    )
    volume = proposals.shape[-1] * math.log(2.0)
    floor = batch.returns[:, None, None, :count]
    densities = torch.cat([here[1], there[1]], dim=1).unsqueeze(1)
    weighted = torch.cat([uniform + volume, torch.maximum(of_policy, floor) - densities], dim=2)
    gap = (torch.logsumexp(weighted, dim=2) - taken[..., :count]).mean(-1).sum(-1)

    action, density = sample(mean, log_std, noise.acting)
    frozen = {name: tensor.detach() for name, tensor in critics.items()}
    quality = values(frozen, batch.states, action, dtype).amin(1)
    temperature = log_temperature.exp()
    improvement = (temperature.detach().unsqueeze(1) * density - quality).mean(-1)
    cloning = distance(mean, batch, settings.preference)
    target_entropy = -float(action.shape[-1])
    tuning = -log_temperature * (density.detach().mean(-1) + target_entropy)

    learning = td + settings.conservatism * gap + improvement + settings.cloning * cloning
    total = (learning + tuning).sum()
    report = {"td": td, "gap": gap, "q": quality.mean(-1), "temperature": temperature}
    return total, {name: tensor.detach() for name, tensor in report.items()}


class Learner:
    """Stacked parameters, their optimizers, and one generator: all that a resumed run needs."""

    def __init__(self, datasets: Sequence[Dataset], settings: Settings) -> None:
        self.settings, self.datasets = settings, datasets
        self.replay = Replay(datasets, settings.discount)
        observation, action = self.replay.widths
        generators = [seeded_generator(settings.seed, 0, index) for index in range(len(datasets))]
        self.actor = MLP4.init(generators, observation, action)
        self.critics = critic_parameters(len(datasets), observation + action, settings.seed)
        self.targets = {name: tensor.clone() for name, tensor in self.critics.items()}
        self.average = {name: tensor.clone() for name, tensor in self.actor.items()}
        self.best_actor = {name: tensor.clone() for name, tensor in self.actor.items()}
        self.best_critics = {name: tensor.clone() for name, tensor in self.critics.items()}
        self.best_scores = torch.full((len(datasets),), -math.inf)
        self.log_temperature = torch.full((len(datasets),), math.log(0.1))
        self.generator = seeded_generator(settings.seed, 2)
        self.step, self.seconds = 0, 0.0
        for tensor in (*self.actor.values(), *self.critics.values(), self.log_temperature):
            tensor.requires_grad_(True)
        self.rates = (settings.actor_lr, settings.critic_lr, settings.temperature_lr)
        groups = ([*self.actor.values()], [*self.critics.values()], [self.log_temperature])
        self.optimizer = torch.optim.Adam([{"params": group} for group in groups], fused=True)

    def advance(self) -> dict[str, Tensor]:
        """One gradient step."""
        settings, (_, action) = self.settings, self.replay.widths
        batch = self.replay.draw(settings.batch, self.generator)
        nets = (self.actor, self.critics)
        if self.step < settings.warmup:
            total, report = warmup_loss(*nets, batch, settings)
        else:
            noise = Noise.draw(len(self.datasets), action, settings, self.generator)
            total, report = cal_ql_loss(
                *nets, self.targets, self.log_temperature, batch, noise, settings
            )
        self.optimizer.zero_grad()
        total.backward()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * decay(self.step / settings.steps)
        self.optimizer.step()
        self.step += 1
        follow(self.average, self.actor, max(settings.averaging, 1 / self.step))
        follow(self.targets, self.critics, settings.target_rate)
        return report

    @torch.no_grad()
    def keep_best(self, scores: Sequence[float]) -> None:
        """Put aside the networks of every dataset whose score is its highest so far."""
        for index, score in enumerate(scores):
            if score <= self.best_scores[index]:
                continue
            self.best_scores[index] = score
            critics = slice(CRITICS * index, CRITICS * (index + 1))
            for name, tensor in self.average.items():
                self.best_actor[name][index] = tensor[index]
            for name, tensor in self.critics.items():
                self.best_critics[name][critics] = tensor[critics]

    def teacher(self, index: int, card: dict[str, Any], best: bool = False) -> Teacher:
        """The averaged actor and the critics of one dataset, in the units of its rewards."""
        dataset, scale = self.datasets[index], self.replay.scales[index]
        critics = []
        for row in range(CRITICS * index, CRITICS * (index + 1)):
            *hidden, (weight, bias) = layers(self.best_critics if best else self.critics, row)
            critics.append((*hidden, (weight * scale, bias * scale)))
        actor = layers(self.best_actor if best else self.average, index)
        return Teacher(dataset.id, actor, tuple(critics), dataset.standardizer, card=card)

    def identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the interrupted one."""
        checksums = [dataset.checksum for dataset in self.datasets]
        return {"data": checksums, **asdict(self.settings)}

    def save(self, path: Path) -> None:
        """Leave everything that changes while training."""
        state = {
            "identity": self.identity(),
            "step": self.step,
            "seconds": self.seconds,
            "generator": self.generator.get_state(),
            "optimizer": self.optimizer.state_dict(),
            "log_temperature": self.log_temperature.detach(),
            "best_scores": self.best_scores,
            **{name: getattr(self, name) for name in STACKS},
        }
        checkpoint.save(state, path)

    @torch.no_grad()
    def resume(self, path: Path) -> None:
        """Go on from a saved state, if there is one."""
        state = checkpoint.load(path, self.identity())
        if state is None:
            return
        self.step, self.seconds = state["step"], state["seconds"]
        self.generator.set_state(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.log_temperature.copy_(state["log_temperature"])
        self.best_scores.copy_(state["best_scores"])
        for name in STACKS:
            for key, tensor in getattr(self, name).items():
                tensor.copy_(state[name][key])


def decay(progress: float) -> float:
    """Learning-rate factor: constant for half of the run, then a cosine to a tenth."""
    return 1.0 if progress < 0.5 else 0.1 + 0.45 * (1 + math.cos(math.pi * (2 * progress - 1)))


@torch.no_grad()
def follow(slow: Params, fast: Params, rate: float) -> None:
    """Move one set of parameters towards another."""
    for name, tensor in slow.items():
        tensor.lerp_(fast[name], rate)


def train(
    datasets: Sequence[Dataset],
    settings: Settings,
    folder: Path,
    *,
    evaluate_every: int = 500,
    episodes: int = 10,
    progress: bool = True,
) -> Learner:
    """Train to the end, logging as it goes and continuing from ``folder`` where it can.

    After the warm-up the policies are scored every so often; the best is put aside.
    """
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    learner, saved = Learner(datasets, settings), folder / "resume.pt"
    learner.resume(saved)
    started = time.perf_counter() - learner.seconds
    total, desc = settings.steps, f"cal-ql {datasets[0].task.name}"
    with tqdm(total=total, initial=learner.step, desc=desc, disable=not progress) as bar:
        while learner.step < settings.steps:
            report = {name: tensor.tolist() for name, tensor in learner.advance().items()}
            bar.update()
            if learner.step % evaluate_every and learner.step < settings.steps:
                continue
            if learner.step > settings.warmup:
                report["score"] = scored(learner, episodes)
                learner.keep_best(report["score"])
                bar.set_postfix(scores=report["score"])
            learner.seconds = time.perf_counter() - started
            entry = {"step": learner.step, "seconds": learner.seconds, **report}
            with (folder / "progress.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            learner.save(saved)
    return learner


def scored(learner: Learner, episodes: int) -> list[float]:
    """Mean normalized return of every dataset's policy, deterministic."""
    task = learner.datasets[0].task
    policies = [learner.teacher(index, {}).act for index in range(len(learner.datasets))]
    returns = deterministic_returns(policies, task, episodes, first_seed=SELECTION_SEED)
    return [round(float(normalized_return(task, each).mean()), 1) for each in returns]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", nargs="+", required=True)
    parser.add_argument("--published", action="store_true", help="score the teachers there are")
    parser.add_argument("--collections", type=Path, default=Path("build/collect/full"))
    parser.add_argument("--work", type=Path, default=Path("build/cal-ql"), help="for resuming")
    parser.add_argument("--teachers", type=Path, default=FILES, help="folder for the teachers")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--bfloat16", action="store_true", help="where the processor has it")
    parser.add_argument(
        "--out", type=Path, default=RESULTS_FOLDER, help="folder of the suite's results"
    )
    options = parser.parse_args(arguments)
    if not options.published:
        names = sorted(known_name(dataset_id) for dataset_id in options.dataset)
        for task, group in groupby(names, key=lambda name: name.partition("-")[0]):
            full = [collected(name, options.collections) for name in group]
            known = {**TASKS[task], "bfloat16": options.bfloat16}
            settings = Settings(steps=options.steps, **known)
            learner = train(full, settings, options.work / task)
            publish(learner, options.teachers)
    for dataset_id in options.dataset:
        print(format_result(teacher_row(dataset_id, options.out)))


if __name__ == "__main__":
    sys.exit(run_script(main))
