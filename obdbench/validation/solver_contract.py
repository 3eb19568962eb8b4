"""Checks that a solver fulfils its interface, in seconds on toy data."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Array
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.loop import EvaluationPoint, distill_points
from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.settings import TRUNCATED_SOLVERS, DistillSettings, resolve_settings
from obdbench.distillation.solvers.solver import OuterProblem, ProblemSize, Solver, make_solver
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import Objective, make_objective
from obdbench.policies.networks import seeded_generator
from obdbench.registry import solvers
from obdbench.validation.contract import (
    Clause,
    ContractError,
    Report,
    check_side_effects,
    run_checks,
    toy_dataset,
    toy_teacher,
)

SEEDS = (0, 1)
OBJECTIVES = ("dbc", "pbc", "av-pbc")
TOLERANCE = 1e-3  # of the largest entry
TOY_SETTINGS = {
    "pairs": 8,
    "inner_steps": 5,
    "steps": 3,
    "batch": 32,
    "kernel_batch": 32,
    "architecture": "mlp2",
}


def check_solver(name: str, settings: dict[str, Any]) -> Report:
    """Check the solver of a registered name with these settings of distillation."""
    return run_checks(name, solvers.get(name), lambda: [SolverChecks(name, settings)])


class SolverChecks:
    """The checks of one solver on small random data."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        window = {"window": 3} if name in TRUNCATED_SOLVERS else {}
        self.settings: DistillSettings = resolve_settings(
            "tiny", {**TOY_SETTINGS, **window, "solver": name, **settings}
        )
        make_solver(name, self.settings)
        self.target = solvers.get(name)
        self.dataset, self.teacher = toy_dataset(), toy_teacher()
        self._accepted: list[Objective] = []

    def clauses(self) -> list[Clause]:
        """Each clause of the contract with the method that it concerns and its check."""
        return [
            ("it takes a step or refuses the objective in one line", "step", self.check_objectives),
            ("a step gives a loss and gradients of every seed", "step", self.check_step),
            ("a step is deterministic given its generators", "step", self.check_repeats),
            ("a seed does not depend on other seeds", "step", self.check_independence),
            ("it does not change states or random state", "step", self.check_side_effects),
            ("it states its memory", "required_bytes", self.check_memory),
            ("it distills a synset", "step", self.check_distillation),
            ("an interrupted distillation ends with the same bits", "step", self.check_resume),
        ]

    def step(
        self, objective: Objective, seeds: tuple[int, ...] = SEEDS
    ) -> tuple[MetaGradient, Tensor, Tensor]:
        """Take the first step from fixed pairs; returns its gradient and the pairs after it."""
        columns = objective.prepare(self.dataset, self.teacher, np.random.default_rng(0))
        batches, students, noise = (
            [seeded_generator(seed, stream) for seed in seeds] for stream in (1, 2, 3)
        )
        problem = OuterProblem(
            objective,
            BatchSampler.from_dataset(self.dataset, columns, "cpu"),
            batch_generators=batches,
            student_generators=students,
            noise_generators=noise,
            observation_size=self.dataset.observation_size,
            action_size=self.dataset.action_size,
            step=0,
            dtype=torch.float32,
            device="cpu",
        )
        states, actions = (
            torch.stack([torch.from_numpy(array[self._rows(seed)]) for seed in seeds])
            for array in (self.dataset.states, self.dataset.actions)
        )
        solver: Solver = make_solver(self.settings.solver, self.settings)
        return solver.step(problem, states, actions), states, actions

    def _rows(self, seed: int) -> Array:
        """The rows of the data that are the pairs of a seed."""
        return np.random.default_rng(seed).permutation(len(self.dataset))[: self.settings.pairs]

    @property
    def objective(self) -> Objective:
        """The first objective that the solver accepts."""
        if not self._accepted:
            self.check_objectives()
        return self._accepted[0]

    def check_objectives(self) -> str:
        texts, self._accepted = [], []
        for name in OBJECTIVES:
            objective = make_objective(name)
            try:
                self.step(objective)
            except InvalidSettingError as error:
                texts.append(f"refuses {name}")
                if not error.remedy:
                    raise ContractError(f"the refusal of {name} has no remedy") from error
            else:
                texts.append(name)
                self._accepted.append(objective)
        if not self._accepted:
            raise ContractError(f"it accepts none of {', '.join(OBJECTIVES)}")
        return ", ".join(texts)

    def check_step(self) -> str:
        gradient, states, actions = self.step(self.objective)
        expected = (states.shape[:1], states.shape, actions.shape)
        for value, shape in zip(
            (gradient.loss, gradient.states, gradient.actions), expected, strict=True
        ):
            if value.shape != shape:
                raise ContractError(
                    f"it returns the shape {tuple(value.shape)}, not {tuple(shape)}"
                )
            if value.requires_grad or not torch.isfinite(value).all():
                raise ContractError("it returns values that are not finite or not detached")
        return f"loss {float(gradient.loss.mean()):.3g}"

    def check_repeats(self) -> None:
        for first, second in zip(self._tensors(), self._tensors(), strict=True):
            if not torch.equal(first, second):
                raise ContractError("two equal steps differ; draw from the problem's generators")

    def check_independence(self) -> None:
        for together, alone in zip(self._tensors(), self._tensors(SEEDS[1:]), strict=True):
            distance = (together[1:] - alone).abs().max()
            if not distance <= TOLERANCE * together.abs().max():
                raise ContractError(
                    f"a seed alone differs by {float(distance):.2g} from the same seed in a batch"
                )

    def _tensors(self, seeds: tuple[int, ...] = SEEDS) -> tuple[Tensor, ...]:
        gradient, _, actions = self.step(self.objective, seeds)
        return gradient.loss, gradient.states, gradient.actions, actions

    def check_side_effects(self) -> None:
        before = self.dataset.states.copy()

        def step() -> None:
            _, states, _ = self.step(self.objective)
            if not np.array_equal(states[0].numpy(), before[self._rows(SEEDS[0])]):
                raise ContractError("it changes states of the pairs in place; return a gradient")

        check_side_effects(self.dataset, step, "the generators of the problem")

    def check_memory(self) -> str:
        solver = make_solver(self.settings.solver, self.settings)
        dataset = self.dataset
        size = ProblemSize(len(SEEDS), dataset.observation_size, dataset.action_size)
        required = solver.required_bytes(size)
        if required < 0:
            raise ContractError(f"it is {required} bytes")
        return f"{required:,} bytes per step"

    def check_distillation(self) -> str:
        points = list(self._distill())
        first, last = points[0].synsets, points[-1].synsets
        for before, after in zip(first, last, strict=True):
            if np.array_equal(before.states, after.states) and np.array_equal(
                before.actions, after.actions
            ):
                raise ContractError("neither states nor actions of the synset change")
        return f"{self.settings.steps} outer steps"

    def check_resume(self) -> None:
        whole = list(self._distill())[-1].synsets
        with tempfile.TemporaryDirectory() as folder:
            snapshot = Path(folder) / "snapshot"
            interrupted = self._distill(snapshot)
            while next(interrupted).step == 0:
                pass
            interrupted.close()
            resumed = list(self._distill(snapshot))[-1].synsets
        for a, b in zip(whole, resumed, strict=True):
            if not (np.array_equal(a.states, b.states) and np.array_equal(a.actions, b.actions)):
                raise ContractError("it resumes with another result; keep no state between steps")

    def _distill(self, snapshot: Path | None = None) -> Generator[EvaluationPoint]:
        settings = self.settings.model_copy(update={"evaluate_at": (0.0, 0.34, 1.0)})
        yield from distill_points(
            self.dataset, self.teacher, self.objective, settings, SEEDS, snapshot=snapshot
        )
