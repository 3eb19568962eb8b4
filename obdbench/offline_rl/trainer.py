"""Training teachers: a fixed number of gradient steps, the last policy, progress and resume.

Several datasets of one task train side by side in one program. Nothing is chosen by a return in
the environment: the teacher is the policy after the last step. ``fitted-q`` trains critics for a
policy that is given.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from obdbench.datasets.dataset import Dataset
from obdbench.errors import (
    InvalidDataError,
    InvalidSettingError,
    translate_validation_error,
    unknown_name,
)
from obdbench.offline_rl.algorithm import CommonSettings, OfflineAlgorithm
from obdbench.offline_rl.cal_ql import CalQL
from obdbench.offline_rl.fitted_q import FittedQ
from obdbench.offline_rl.iql import IQL
from obdbench.offline_rl.networks import convert_inputs, network_layers
from obdbench.offline_rl.replay import Replay
from obdbench.offline_rl.td3_bc import TD3BC
from obdbench.policies.networks import seeded_generator
from obdbench.progress_bar import progress_bar
from obdbench.teachers.teacher import Teacher
from obdbench.training_state import save_state, saved_state
from obdbench.version import __version__

ALGORITHMS: dict[str, type[OfflineAlgorithm]] = {
    algorithm.name: algorithm for algorithm in (TD3BC, IQL, CalQL, FittedQ)
}
DEFAULT_ALGORITHM = "td3-bc"
DEFAULT_STEPS = 200_000
HELD_OUT = 0.02
SAVE_EVERY_SECONDS = 10.0
LOG_EVERY = 100
SMOOTHING = 0.02


def algorithm_settings(algorithm: str, overrides: dict[str, Any] | None = None) -> CommonSettings:
    """The settings of an algorithm with overrides; unknown names and wrong values are errors."""
    if algorithm not in ALGORITHMS:
        raise unknown_name("offline RL algorithm", algorithm, ALGORITHMS)
    kind: type[CommonSettings] = ALGORITHMS[algorithm].settings_type
    known = [field.name for field in fields(kind)]
    for name in overrides or {}:
        if name not in known:
            raise unknown_name(f"setting of {algorithm}", name, known)
    with translate_validation_error("Change the setting, or leave it out.", f"{algorithm}: "):
        return TypeAdapter(kind).validate_python(overrides or {})


def check_policy(
    algorithm: type[OfflineAlgorithm], policy: Teacher | None, dataset: Dataset
) -> Teacher | None:
    """The policy to evaluate, which only algorithms that train none take."""
    if algorithm.evaluates_policy and policy is None:
        raise InvalidSettingError(
            f"{algorithm.name} estimates the action value of a policy, and none is given.",
            "Give a registered teacher or the path of a policy file, with --policy.",
        )
    if not algorithm.evaluates_policy and policy is not None:
        raise InvalidSettingError(
            f"{algorithm.name} trains its own policy.",
            "Use --policy with --algorithm fitted-q.",
        )
    if policy is not None and (policy.observation_size, policy.action_size) != (
        dataset.observation_size,
        dataset.action_size,
    ):
        raise InvalidDataError(
            f"The policy {policy.id!r} has {policy.observation_size} observations and "
            f"{policy.action_size} actions; {dataset.task.env_id} has {dataset.observation_size} "
            f"and {dataset.action_size}.",
            "Use a policy of the same task.",
        )
    return policy


def state_name(datasets: Sequence[Dataset]) -> str:
    """Part of a file name for these datasets, so that concurrent trainings use different files."""
    content = " ".join(dataset.checksum for dataset in datasets)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


class TeacherTraining:
    """The training of one teacher per dataset, which can be saved and continued."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        algorithm: str = DEFAULT_ALGORITHM,
        *,
        steps: int = DEFAULT_STEPS,
        seed: int = 0,
        settings: dict[str, Any] | None = None,
        policy: Teacher | None = None,
    ) -> None:
        if steps < 1:
            raise InvalidSettingError(f"steps is {steps}.", "It must be positive.")
        self.datasets, self.algorithm_name = datasets, algorithm
        self.settings = algorithm_settings(algorithm, settings)
        self.steps, self.seed = steps, seed
        build = ALGORITHMS[algorithm]
        self.policy = check_policy(build, policy, datasets[0])
        self.replay = Replay(
            datasets,
            self.settings.discount,
            held_out=HELD_OUT,
            seed=seed,
            reward_bias=self.settings.reward_bias,
            policy=policy,
            scaling=build.reward_scaling,
        )
        self.algorithm = build(self.replay.shape, self.settings, seed, steps)
        self.generator = seeded_generator(seed, 3)
        self.step, self.seconds = 0, 0.0
        self.losses: dict[str, torch.Tensor] = {}

    def advance(self) -> None:
        """Take one gradient step; :attr:`losses` are moving averages."""
        batch = self.replay.draw(self.settings.batch_size, self.generator)
        for name, value in self.algorithm.update(batch, self.step, self.generator).items():
            average = self.losses.get(name)
            self.losses[name] = value if average is None else average.lerp(value, SMOOTHING)
        self.step += 1

    def check_finite(self) -> None:
        """Raise an error if a loss is not finite."""
        for name, values in self.losses.items():
            if not torch.isfinite(values).all():
                raise InvalidDataError(
                    f"Training {self.algorithm_name} diverged before step {self.step}: {name} is "
                    "not finite.",
                    "Check the dataset's rewards, or lower the learning rate.",
                )

    def identity(self) -> dict[str, Any]:
        """What a saved training must have in common with this one."""
        return {
            "algorithm": self.algorithm_name,
            "transitions": self.replay.checksums,
            "policy": None if self.policy is None else self.policy.checksum,
            "settings": asdict(self.settings),
            "steps": self.steps,
            "seed": self.seed,
        }

    def save(self, path: Path) -> None:
        """Write everything that training changes, atomically."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "generator": self.generator.get_state(),
            "algorithm": self.algorithm.state(),
        }
        save_state(path, self.identity(), state)

    def resume(self, path: Path) -> bool:
        """Continue from a saved state; returns whether there is one."""
        with saved_state(path, self.identity()) as state:
            if state is None:
                return False
            self.algorithm.load_state(state["algorithm"])
            self.generator.set_state(state["generator"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.losses = dict(state["losses"])
        return True

    @torch.no_grad()
    def held_out_statistics(self, index: int) -> dict[str, float]:
        """Statistics of one teacher on transitions left out of training."""
        rows = self.replay.held_out[index]
        if len(rows) < 2:
            return {}
        dataset, teacher = self.datasets[index], self.teacher(index)
        observation = self.replay.shape.observation_size
        observations = dataset.standardizer.invert(rows[:, :observation].numpy())
        batch = self.replay.split(rows.unsqueeze(0))
        actions = torch.from_numpy(teacher.act(observations))
        data_actions = batch.actions[0]
        scale = self.replay.reward_scales[index]
        values = torch.from_numpy(teacher.value(observations, data_actions.numpy())) / scale
        variance = data_actions.var(dim=0).sum()
        returns = batch.returns[0]
        return {
            "transitions": len(rows),
            "action_mse": float((actions - data_actions).square().mean()),
            "action_variance_share": float(
                (actions - data_actions).square().mean(dim=0).sum() / variance.clamp_min(1e-12)
            ),
            "value_return_correlation": float(torch.corrcoef(torch.stack([values, returns]))[0, 1]),
            "mean_value": float(values.mean() * scale),
            "mean_return": float(returns.mean() * scale),
        }

    def teacher(self, index: int, card: dict[str, Any] | None = None) -> Teacher:
        """The present policy and critics of one dataset, in the units of its rewards."""
        dataset, scale = self.datasets[index], self.replay.reward_scales[index]
        stack, count = self.algorithm.networks["critics"], self.algorithm.critics
        critics = tuple(network_layers(stack, count * index + i, scale) for i in range(count))
        if self.policy is not None:
            moments = self.policy.standardizer
            critics = tuple(
                convert_inputs(critic, dataset.standardizer, moments) for critic in critics
            )
            return replace(self.policy, id=dataset.id, critics=critics, card=card or {})
        return Teacher(
            dataset.id,
            self.algorithm.actor_layers(index),
            critics,
            dataset.standardizer,
            log_std_offset=self.algorithm.log_std_offset,
            card=card or {},
        )

    def card(self, index: int) -> dict[str, Any]:
        """What is known of one teacher without an environment."""
        dataset, policy = self.datasets[index], self.policy
        selection = "the policy after the last gradient step"
        evaluated = {} if policy is None else {"id": policy.id, "checksum": policy.checksum}
        return {
            "id": dataset.id,
            "algorithm": self.algorithm_name,
            "source": self.algorithm.paper,
            **({"policy": evaluated} if evaluated else {"selection": selection}),
            "data": {"transitions": len(dataset), "checksum": dataset.checksum},
            "steps": self.steps,
            "seed": self.seed,
            "settings": asdict(self.settings),
            "trained_with": [each.id for each in self.datasets],
            "seconds": round(self.seconds),
            "losses": {
                name: round(float(values[index]), 6) for name, values in self.losses.items()
            },
            "held_out": {
                name: round(value, 6) for name, value in self.held_out_statistics(index).items()
            },
            "versions": {"obdbench": __version__, "torch": torch.__version__},
        }


def train_teachers(
    datasets: Sequence[Dataset],
    algorithm: str = DEFAULT_ALGORITHM,
    *,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    policy: Teacher | None = None,
    state_path: Path | None = None,
    progress: bool = True,
) -> list[Teacher]:
    """Train one teacher per dataset; all datasets belong to one task.

    ``fitted-q`` evaluates ``policy`` on every dataset. With ``state_path`` an interrupted training
    continues where it was. At the end the file holds the complete training; the caller removes it
    when the teachers are saved.
    """
    training = TeacherTraining(
        datasets, algorithm, steps=steps, seed=seed, settings=settings, policy=policy
    )
    if state_path is not None:
        training.resume(state_path)
    started = time.perf_counter() - training.seconds
    saved = time.perf_counter()
    description = f"{algorithm} {datasets[0].task.name}"
    with progress_bar(
        total=steps, initial=training.step, desc=description, unit="step", progress=progress
    ) as bar:
        while training.step < steps:
            training.advance()
            bar.update()
            if training.step % LOG_EVERY and training.step < steps:
                continue
            training.check_finite()
            training.seconds = time.perf_counter() - started
            bar.set_postfix(
                {name: f"{float(values.mean()):.3g}" for name, values in training.losses.items()},
                refresh=False,
            )
            if state_path is not None and time.perf_counter() - saved > SAVE_EVERY_SECONDS:
                training.save(state_path)
                saved = time.perf_counter()
    if state_path is not None:
        training.save(state_path)
    return [training.teacher(index, training.card(index)) for index in range(len(datasets))]
