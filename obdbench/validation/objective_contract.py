"""Checks that an objective fulfils its interface, in seconds on toy data."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.loop import distill_points
from obdbench.distillation.outer_step import check_columns
from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidDataError, InvalidSettingError, unknown_name
from obdbench.objectives.objective import Batch, Objective, make_objective
from obdbench.plugins import Plugin
from obdbench.registry import objectives, selections, solvers
from obdbench.selection.undistilled import SelectedPairs
from obdbench.validation.contract import (
    STATES,
    Checks,
    Clause,
    ContractError,
    Report,
    check_side_effects,
    run_checks,
    toy_dataset,
    toy_teacher,
)
from obdbench.validation.selection_contract import SelectionChecks
from obdbench.validation.solver_contract import check_solver

SEEDS, BATCH = 3, 64
PREPARE_SECONDS, LOSS_SECONDS = 20.0, 0.25
TOLERANCE = 1e-4
SETTINGS = DistillSettings(
    pairs=8, inner_steps=3, steps=2, batch=32, evaluate_at=(0.0, 1.0), architecture="mlp2"
)


def validate_objectives(reference: str, params: dict[str, Any] | None = None) -> list[Report]:
    """Check the objectives, selection methods and solvers of a plugin, or a registered name.

    ``params`` are those of the objective, or settings of the distillation for a solver.
    """
    params, names = params or {}, [reference]
    solver_names: list[str] = []
    if reference not in objectives:
        if reference in solvers:
            return [check_solver(solvers.resolve_name(reference), params)]
        names, solver_names = _load_plugin(reference)
    if not names and not solver_names:
        raise InvalidSettingError(
            f"The plugin {reference} defines no objective, selection method or solver.",
            "Derive a class from obdbench.Objective, obdbench.SelectionMethod or obdbench.Solver "
            "and register it.",
        )
    return [
        *(check_objective(name, params) for name in names),
        *(check_solver(name, params) for name in solver_names),
    ]


def _load_plugin(reference: str) -> tuple[list[str], list[str]]:
    """Load a plugin; returns the names of its objectives and of its solvers."""
    try:
        plugin = Plugin.read(reference)
        names = plugin.load()
    except InvalidSettingError as error:
        missing = error.__cause__
        named = reference.partition(":")[0]
        if isinstance(missing, ModuleNotFoundError) and f"{named}.".startswith(f"{missing.name}."):
            known = [*objectives.names(), *selections.names(), *solvers.names()]
            kinds = "objective, selection method, solver or module"
            raise unknown_name(kinds, reference, known) from error
        raise
    module = plugin.module_name if plugin.source else reference.partition(":")[0]
    own = [entry.name for entry in solvers if getattr(entry.target, "__module__", "") == module]
    return names, own


def check_objective(name: str, params: dict[str, Any]) -> Report:
    """Run every check; an exception counts as a failure and does not stop the other checks."""

    def create() -> list[Checks]:
        objective = make_objective(name, params)
        checks: list[Checks] = [ObjectiveChecks(name, objective)]
        if isinstance(objective, SelectedPairs):
            checks.append(SelectionChecks(objective.method))
        return checks

    return run_checks(name, objectives.get(name), create)


class ObjectiveChecks:
    """The checks of one objective on small random data."""

    def __init__(self, name: str, objective: Objective) -> None:
        self.name, self.objective, self.target = name, objective, type(objective)
        self.dataset = toy_dataset()
        self.teacher = toy_teacher() if objective.uses_teacher else None
        self._batch: Batch | None = None

    def clauses(self) -> list[Clause]:
        """Each clause of the contract with the method that it concerns and its check."""
        settings = ("its settings survive JSON", "settings", self.check_settings)
        distillation = ("it distills a synset", "loss", self.check_distillation)
        if not self.objective.distills:
            return [settings, distillation]
        suffix = "" if self.objective.uses_teacher else ", without a teacher"
        return [
            settings,
            (f"prepare gives one finite row per state{suffix}", "prepare", self.check_columns),
            ("prepare is deterministic", "prepare", self.check_columns_repeat),
            ("the loss is one finite number per student", "loss", self.check_loss),
            ("a gradient reaches the student's actions", "loss", self.check_gradient),
            ("a student's loss does not depend on other students", "loss", self.check_independence),
            ("the loss is deterministic", "loss", self.check_loss_repeats),
            ("it does not change data or random state", "prepare", self.check_side_effects),
            ("it is fast enough", "loss", self.check_speed),
            distillation,
        ]

    def check_settings(self) -> str:
        settings = self.objective.settings()
        try:
            restored = json.loads(json.dumps(settings, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ContractError(f"{settings} is not serializable: {error}") from error
        again = make_objective(self.name, restored).settings()
        if json.dumps(again, sort_keys=True) != json.dumps(restored, sort_keys=True):
            raise ContractError(
                f"an objective created with its settings {restored} has the settings {again}"
            )
        return json.dumps(settings)

    def columns(self) -> dict[str, Tensor]:
        columns = self.objective.prepare(self.dataset, self.teacher, np.random.default_rng(0))
        try:
            check_columns(self.name, columns)
        except InvalidDataError as error:
            raise ContractError(f"{error}") from error
        return columns

    def batch(self) -> Batch:
        if self._batch is None:
            noise = tuple(self.objective.noise_columns)
            sampler = BatchSampler.from_dataset(self.dataset, self.columns(), "cpu", noise)
            generators = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
            self._batch = sampler.draw(BATCH, generators)
        return self._batch

    def actions(self) -> Tensor:
        generator = torch.Generator().manual_seed(99)
        return torch.tanh(torch.randn(SEEDS, BATCH, self.dataset.action_size, generator=generator))

    def loss(self, actions: Tensor, batch: Batch | None = None) -> Tensor:
        value = self.objective.loss(actions, batch or self.batch())
        if not isinstance(value, Tensor):
            raise ContractError(f"loss returns {type(value).__name__}, not a tensor")
        return value

    def check_columns(self) -> str:
        self.batch()
        return f"columns {', '.join(self.columns()) or 'none'}"

    def check_columns_repeat(self) -> None:
        first, second = self.columns(), self.columns()
        for name, column in first.items():
            if name not in second or not torch.equal(column, second[name]):
                raise ContractError(f"the column {name!r} differs between two calls with equal rng")

    def losses(self) -> Tensor:
        """One loss per student on the same actions."""
        value = self.loss(self.actions())
        if tuple(value.shape) != (SEEDS,):
            raise ContractError(
                f"its shape for {SEEDS} students is {tuple(value.shape)}, not ({SEEDS},); "
                "average over states and action dimensions only"
            )
        return value

    def check_loss(self) -> str:
        value = self.losses()
        if not torch.isfinite(value).all():
            raise ContractError(f"it is {value.tolist()}")
        return ", ".join(f"{number:.4g}" for number in value.tolist())

    def check_gradient(self) -> str:
        actions = self.actions().requires_grad_()
        total = self.loss(actions).sum()
        if not total.requires_grad:
            raise ContractError("it does not depend on the actions; check for detach()")
        (gradient,) = torch.autograd.grad(total, actions, allow_unused=True)
        if gradient is None or not torch.isfinite(gradient).all():
            raise ContractError("the gradient is missing or not finite")
        norms = gradient.flatten(1).norm(dim=1)
        if float(norms.min()) == 0.0:
            raise ContractError("the gradient of a student is zero")
        return f"norm {float(norms.mean()):.3g}"

    def check_independence(self) -> None:
        actions, batch, together = self.actions(), self.batch(), self.losses()
        for index in range(SEEDS):
            rows = slice(index, index + 1)
            alone = Batch({name: column[rows] for name, column in batch.columns.items()})
            single = self.loss(actions[rows], alone)
            if not torch.allclose(
                single, together[rows], rtol=TOLERANCE, atol=1e-7, equal_nan=True
            ):
                raise ContractError(
                    f"student {index} has {float(together[index]):.6g} in a batch of {SEEDS} and "
                    f"{float(single.reshape(-1)[0]):.6g} alone; do not reduce over the first axis"
                )

    def check_loss_repeats(self) -> None:
        actions = self.actions()
        first, second = self.loss(actions), self.loss(actions)
        if not torch.allclose(first, second, rtol=0.0, atol=0.0, equal_nan=True):
            raise ContractError("two calls with equal input differ; declare noise in noise_columns")

    def check_side_effects(self) -> None:
        actions = self.actions()
        original = actions.clone()
        check_side_effects(
            self.dataset, lambda: (self.columns(), self.loss(actions)), "rng or noise_columns"
        )
        if not torch.equal(actions, original):
            raise ContractError("it changes the student's actions in place")

    def check_speed(self) -> str:
        started = time.perf_counter()
        self.columns()
        prepare = time.perf_counter() - started
        actions, batch = self.actions(), self.batch()
        times = []
        for _ in range(5):
            started = time.perf_counter()
            leaf = actions.clone().requires_grad_()
            torch.autograd.grad(self.loss(leaf, batch).sum(), leaf)
            times.append(time.perf_counter() - started)
        loss = sorted(times)[2]
        times_text = (
            f"prepare {prepare:.2g} s for {STATES} states, loss {1e3 * loss:.2g} ms per step"
        )
        if prepare > PREPARE_SECONDS or loss > LOSS_SECONDS:
            raise ContractError(times_text)
        return times_text

    def check_distillation(self) -> str:
        if self.objective.distills:
            self.losses()
        points = self._distill([0, 1])
        last = points[-1].synsets
        if not self.objective.distills:
            return "pairs are selected and not optimized"
        first = points[0].synsets
        for before, after in zip(first, last, strict=True):
            if np.array_equal(before.states, after.states):
                raise ContractError("the synset's states do not change")
            if np.array_equal(before.actions, after.actions):
                raise ContractError("the synset's actions do not change")
        alone = self._distill([1])[-1].synsets[0]
        distance = float(np.abs(alone.states - last[1].states).max())
        if not math.isfinite(distance) or distance > 1e-2:
            raise ContractError(
                f"the result of a seed alone differs by {distance:.2g} from its result in a batch"
            )
        return f"{SETTINGS.steps} outer steps, equal results for a seed alone and in a batch"

    def _distill(self, seeds: list[int]) -> list[Any]:
        return list(distill_points(self.dataset, self.teacher, self.objective, SETTINGS, seeds))
