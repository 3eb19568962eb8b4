"""Checks of a contract: their outcome, their report, and toy data to run them on.

Each failed check states what is wrong and the line of the source to look at.
"""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from obdbench.datasets.dataset import Dataset, Standardizer
from obdbench.errors import ObdError
from obdbench.policies.torch_settings import single_thread
from obdbench.tasks.task import TASKS
from obdbench.teachers.teacher import Layers, Teacher

STATES = 512
Clause = tuple[str, str, Callable[[], Any]]


class ContractError(Exception):
    """A violation of the contract."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    clause: str
    passed: bool
    detail: str = ""
    where: str = ""


@dataclass(frozen=True)
class Report:
    """All checks of one objective, selection method or solver."""

    name: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def text(self) -> str:
        """One line per check."""
        lines = [f"{self.name}: {'valid' if self.passed else 'INVALID'}"]
        for check in self.checks:
            detail = f": {check.detail}" if check.detail else ""
            where = f" ({check.where})" if check.where and not check.passed else ""
            lines.append(f"  {'ok  ' if check.passed else 'FAIL'} {check.clause}{detail}{where}")
        return "\n".join(lines)


class Checks(Protocol):
    """The checks of one component; ``target`` is its class, whose source failed checks name."""

    target: Any

    def clauses(self) -> list[Clause]:
        """Each clause of the contract with the method that it concerns and its check."""


def run_checks(name: str, target: Any, create: Callable[[], Sequence[Checks]]) -> Report:
    """Create a component and run its checks; a failure does not stop the other checks."""
    with single_thread():
        creation, created = run_check("it can be created", target, "__init__", create)
        checks = [
            run_check(clause, group.target, method, check)[0]
            for group in created or ()
            for clause, method, check in group.clauses()
        ]
    return Report(name, (creation, *checks))


def run_check(clause: str, target: Any, method: str, check: Callable[[], Any]) -> tuple[Check, Any]:
    """Run one check of a method; an exception is a failure with a line of the source."""
    try:
        detail = check()
    except ContractError as error:
        return Check(clause, False, str(error), _source_line(target, method)), None
    except Exception as error:
        message = str(error) if isinstance(error, ObdError) else f"{type(error).__name__}: {error}"
        return Check(
            clause, False, message.splitlines()[0], _source_line(target, method, error)
        ), None
    return Check(clause, True, detail if isinstance(detail, str) else ""), detail


def _source_line(target: Any, method: str, error: BaseException | None = None) -> str:
    """The line of the plugin that raised the exception, or the first line of the method."""
    try:
        file = inspect.getsourcefile(target) or ""
        trace = traceback.walk_tb(error.__traceback__ if error is not None else None)
        lines = [line for frame, line in trace if frame.f_code.co_filename == file]
        line = lines[-1] if lines else None
        if line is None:
            names = (name for name in (method, "__init__", "loss") if name in vars(target))
            code = inspect.unwrap(vars(target)[next(names)]).__code__
            file, line = code.co_filename, code.co_firstlineno
        return f"{file}:{line}"
    except (TypeError, AttributeError, OSError, StopIteration):
        return ""


def check_side_effects(dataset: Dataset, action: Callable[[], Any], allowed: str) -> None:
    """Run an action that may change neither the dataset nor the global random state."""
    arrays = ("observations", "states", "actions", "rewards", "terminals")
    before = {name: getattr(dataset, name).copy() for name in arrays}
    states = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    action()
    for name, array in before.items():
        if not np.array_equal(array, getattr(dataset, name)):
            raise ContractError(f"it changes the dataset's {name} in place")
    after = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    if not torch.equal(states[0], after[0]) or states[1] != after[1]:
        raise ContractError(f"it uses the global random state; use {allowed}")


def toy_dataset() -> Dataset:
    """Random transitions with the array shapes of the task hopper."""
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
    """A random teacher for the toy data, with positive action values."""
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
