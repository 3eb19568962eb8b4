"""The contract of an objective, checked in seconds on toy data.

Every check names what is wrong, and where in the source to look.
"""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset, Standardizer
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidSettingError, ObdError, unknown_name
from obdbench.objectives.objective import Batch, Objective, make_objective
from obdbench.plugins import Plugin
from obdbench.policies.single_thread import single_thread
from obdbench.registry import objectives
from obdbench.tasks.task import TASKS
from obdbench.teachers.teacher import Layers, Teacher

STATES, SEEDS, BATCH = 512, 3, 64
PREPARE_SECONDS, LOSS_SECONDS = 20.0, 0.25
TOLERANCE = 1e-4
SETTINGS = DistillSettings(
    pairs=8, inner_steps=3, steps=2, batch=32, evaluate_at=(0.0, 1.0), architecture="mlp2"
)


class ContractError(Exception):
    """What a check found wrong."""


@dataclass(frozen=True)
class Check:
    """One clause of the contract and whether it is kept."""

    clause: str
    passed: bool
    detail: str = ""
    where: str = ""


@dataclass(frozen=True)
class Report:
    """All checks of one objective."""

    objective: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every clause is kept."""
        return all(check.passed for check in self.checks)

    def text(self) -> str:
        """A line a clause."""
        lines = [f"{self.objective}: {'sound' if self.passed else 'NOT SOUND'}"]
        for check in self.checks:
            detail = f": {check.detail}" if check.detail else ""
            where = f" ({check.where})" if check.where and not check.passed else ""
            lines.append(f"  {'ok  ' if check.passed else 'FAIL'} {check.clause}{detail}{where}")
        return "\n".join(lines)


def validate_objectives(reference: str, params: dict[str, Any] | None = None) -> list[Report]:
    """Check the objectives of a plugin, or one that is registered already."""
    names = [reference] if reference in objectives else _brought_by(reference)
    if not names:
        raise InvalidSettingError(
            f"The plugin {reference} brings no objective.",
            "Derive a class from obdbench.Objective and give it a name.",
        )
    return [check_objective(name, params or {}) for name in names]


def _brought_by(reference: str) -> list[str]:
    try:
        return Plugin.read(reference).load()
    except InvalidSettingError as error:
        missing = error.__cause__
        named = reference.partition(":")[0]
        if isinstance(missing, ModuleNotFoundError) and f"{named}.".startswith(f"{missing.name}."):
            raise unknown_name("objective or module", reference, objectives.names()) from error
        raise


def check_objective(name: str, params: dict[str, Any]) -> Report:
    """Run every check; one that raises has failed and does not stop the others."""
    target = objectives.get(name)
    checks: list[Check] = []
    with single_thread():
        made = _attempt("it can be made", target, "__init__", lambda: make_objective(name, params))
        checks.append(made[0])
        objective = made[1]
        if objective is not None:
            for clause, method, check in _clauses(name, objective):
                checks.append(_attempt(clause, type(objective), method, check)[0])
    return Report(name, tuple(checks))


def _clauses(name: str, objective: Objective) -> list[tuple[str, str, Callable[[], Any]]]:
    toy = ToyChecks(objective)
    clauses: list[tuple[str, str, Callable[[], Any]]] = [
        ("its settings survive JSON", "settings", lambda: _settings(name, objective)),
    ]
    if objective.distils:
        alone = "" if objective.uses_teacher else ", without a teacher"
        clauses += [
            (f"prepare gives one finite row a state{alone}", "prepare", toy.prepares),
            ("prepare is deterministic", "prepare", toy.prepares_again),
            ("the loss is finite, one a student", "loss", toy.finite),
            ("a gradient reaches the student's actions", "loss", toy.gradient),
            ("a batch of students equals single ones", "loss", toy.singles),
            ("the loss is deterministic", "loss", toy.repeats),
            ("it leaves data and random state alone", "prepare", toy.harmless),
            ("its time is sensible", "loss", toy.quick),
        ]
    clauses.append(("it distils a synset", "loss", toy.distils))
    return clauses


class ToyChecks:
    """Small random data, and the checks that need it."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.dataset = toy_dataset()
        self.teacher = toy_teacher() if objective.uses_teacher else None  # as a trial has it
        self._batch: Batch | None = None

    def columns(self) -> dict[str, Tensor]:
        columns = self.objective.prepare(self.dataset, self.teacher, np.random.default_rng(0))
        if not isinstance(columns, dict) or not all(
            isinstance(value, Tensor) for value in columns.values()
        ):
            raise ContractError("prepare returns no dictionary of tensors")
        return columns

    def batch(self) -> Batch:
        if self._batch is None:
            noise = tuple(self.objective.noise_columns)
            feed = BatchSampler.from_dataset(self.dataset, self.columns(), "cpu", noise)
            generators = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
            self._batch = feed.draw(BATCH, generators)
        return self._batch

    def actions(self) -> Tensor:
        generator = torch.Generator().manual_seed(99)
        return torch.tanh(torch.randn(SEEDS, BATCH, self.dataset.action_size, generator=generator))

    def loss(self, actions: Tensor, batch: Batch | None = None) -> Tensor:
        value = self.objective.loss(actions, batch or self.batch())
        if not isinstance(value, Tensor):
            raise ContractError(f"loss returns {type(value).__name__}, not a tensor")
        return value

    def prepares(self) -> str:
        self.batch()
        return f"columns {', '.join(self.columns()) or 'none'}"

    def prepares_again(self) -> None:
        first, second = self.columns(), self.columns()
        for name, column in first.items():
            if name not in second or not torch.equal(column, second[name]):
                raise ContractError(f"the column {name!r} differs between two calls with one rng")

    def finite(self) -> str:
        value = self.loss(self.actions())
        if tuple(value.shape) != (SEEDS,):
            raise ContractError(
                f"for {SEEDS} students it has the shape {tuple(value.shape)}, not ({SEEDS},); "
                "average over states and action dimensions only"
            )
        if not torch.isfinite(value).all():
            raise ContractError(f"it is {value.tolist()}")
        return ", ".join(f"{number:.4g}" for number in value.tolist())

    def gradient(self) -> str:
        actions = self.actions().requires_grad_()
        total = self.loss(actions).sum()
        if not total.requires_grad:
            raise ContractError("it does not depend on the actions; is something detached?")
        (gradient,) = torch.autograd.grad(total, actions, allow_unused=True)
        if gradient is None or not torch.isfinite(gradient).all():
            raise ContractError("the gradient is missing or not finite")
        norms = gradient.flatten(1).norm(dim=1)
        if float(norms.min()) == 0.0:
            raise ContractError("the gradient of a student is zero")
        return f"norm {float(norms.mean()):.3g}"

    def singles(self) -> None:
        actions, batch = self.actions(), self.batch()
        together = self.loss(actions)
        for index in range(SEEDS):
            rows = slice(index, index + 1)
            alone = Batch({name: column[rows] for name, column in batch._columns.items()})
            single = self.loss(actions[rows], alone)
            if not torch.allclose(single, together[rows], rtol=TOLERANCE, atol=1e-7):
                raise ContractError(
                    f"student {index} has {float(together[index]):.6g} among {SEEDS} and "
                    f"{float(single.reshape(-1)[0]):.6g} alone; do not mix along the first axis"
                )

    def repeats(self) -> None:
        actions = self.actions()
        if not torch.equal(self.loss(actions), self.loss(actions)):
            raise ContractError("two calls with the same input differ; name noise in noise_columns")

    def harmless(self) -> None:
        arrays = ("observations", "actions", "rewards", "terminals")
        before = {name: getattr(self.dataset, name).copy() for name in arrays}
        actions = self.actions()
        kept = actions.clone()
        states = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
        self.columns()
        self.loss(actions)
        for name, array in before.items():
            if not np.array_equal(array, getattr(self.dataset, name)):
                raise ContractError(f"it changes the dataset's {name} in place")
        if not torch.equal(actions, kept):
            raise ContractError("it changes the student's actions in place")
        after = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
        if not torch.equal(states[0], after[0]) or str(states[1]) != str(after[1]):
            raise ContractError("it draws from the global random state; use rng or noise_columns")

    def quick(self) -> str:
        began = time.perf_counter()
        self.columns()
        prepare = time.perf_counter() - began
        actions, batch = self.actions(), self.batch()
        times = []
        for _ in range(5):
            began = time.perf_counter()
            leaf = actions.clone().requires_grad_()
            torch.autograd.grad(self.loss(leaf, batch).sum(), leaf)
            times.append(time.perf_counter() - began)
        loss = sorted(times)[2]
        said = f"prepare {prepare:.2g} s for {STATES} states, loss {1e3 * loss:.2g} ms a step"
        if prepare > PREPARE_SECONDS or loss > LOSS_SECONDS:
            raise ContractError(said)
        return said

    def distils(self) -> str:
        points = self._distil([0, 1])
        last = points[-1].synsets
        if not self.objective.distils:
            return "takes none of its own: pairs stay as they were drawn"
        first = points[0].synsets
        for before, after in zip(first, last, strict=True):
            if np.array_equal(before.states, after.states):
                raise ContractError("the synset's states do not move")
            if np.array_equal(before.actions, after.actions):
                raise ContractError("the synset's actions do not move")
        alone = self._distil([1])[-1].synsets[0]
        apart = float(np.abs(alone.states - last[1].states).max())
        if not math.isfinite(apart) or apart > 1e-2:
            raise ContractError(f"a seed alone ends {apart:.2g} away from where it ends in a batch")
        return f"{SETTINGS.steps} outer steps, a seed alone as in a batch"

    def _distil(self, seeds: list[int]) -> list[Any]:
        return list(distill_points(self.dataset, self.teacher, self.objective, SETTINGS, seeds))


def _settings(name: str, objective: Objective) -> str:
    settings = objective.settings()
    try:
        back = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ContractError(f"{settings} is not serializable: {error}") from error
    again = make_objective(name, back).settings()
    if json.dumps(again, sort_keys=True) != json.dumps(back, sort_keys=True):
        raise ContractError(f"made from its own settings {back} it has {again}")
    return json.dumps(settings)


def _attempt(clause: str, target: Any, method: str, check: Callable[[], Any]) -> tuple[Check, Any]:
    try:
        found = check()
    except ContractError as error:
        return Check(clause, False, str(error), _where(target, method)), None
    except Exception as error:
        message = str(error) if isinstance(error, ObdError) else f"{type(error).__name__}: {error}"
        return Check(clause, False, message.splitlines()[0], _where(target, method, error)), None
    return Check(clause, True, found if isinstance(found, str) else ""), found


def _where(target: Any, method: str, error: BaseException | None = None) -> str:
    """The line that raised within the plugin, else the method's first line."""
    try:
        file = inspect.getsourcefile(target) or ""
        trace = error.__traceback__ if error is not None else None
        line = None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == file:
                line = trace.tb_lineno
            trace = trace.tb_next
        if line is None:
            names = (name for name in (method, "__init__", "loss") if name in vars(target))
            code = inspect.unwrap(vars(target)[next(names)]).__code__
            file, line = code.co_filename, code.co_firstlineno
        return f"{file}:{line}"
    except (TypeError, AttributeError, OSError, StopIteration):
        return ""


def toy_dataset() -> Dataset:
    """Random transitions with the shapes of hopper."""
    task, rng = TASKS["hopper"], np.random.default_rng(7)
    ends = np.zeros(STATES, dtype=bool)
    ends[63::64] = True
    return Dataset(
        id="toy/hopper-random-v0",
        task=task,
        observations=rng.standard_normal((STATES, task.observation_size), dtype=np.float32),
        actions=np.tanh(rng.standard_normal((STATES, task.action_size), dtype=np.float32)),
        rewards=rng.standard_normal(STATES, dtype=np.float32),
        terminals=ends,
    )


def toy_teacher() -> Teacher:
    """A random teacher that fits the toy data, with positive action values."""
    task, generator = TASKS["hopper"], torch.Generator().manual_seed(7)
    size, act = task.observation_size, task.action_size

    def layers(inputs: int, outputs: int, shift: float = 0.0) -> Layers:
        return tuple(
            (torch.randn(o, i, generator=generator) / math.sqrt(i), torch.full((o,), bias))
            for i, o, bias in ((inputs, 16, 0.0), (16, outputs, shift))
        )

    return Teacher(
        id="toy",
        actor=layers(size, 2 * act),
        critics=(layers(size + act, 1, 50.0), layers(size + act, 1, 50.0)),
        standardizer=Standardizer(np.zeros(size, np.float32), np.ones(size, np.float32)),
    )
