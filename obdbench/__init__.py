"""obdbench: benchmark suite for offline behavior distillation.

Public names are imported on first use, so that ``import obdbench`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from obdbench.registry import (
    register_architecture,
    register_dataset,
    register_objective,
    register_protocol,
    register_selection,
    register_solver,
    register_state_source,
    register_teacher,
)
from obdbench.version import __version__

if TYPE_CHECKING:
    from obdbench.datasets.dataset import Dataset
    from obdbench.datasets.loading import load_dataset
    from obdbench.distillation.api import distill
    from obdbench.distillation.solvers.solver import Solver
    from obdbench.distillation.state_sources.state_source import StateSource
    from obdbench.distillation.synset import Synset
    from obdbench.evaluation.api import Evaluation, evaluate
    from obdbench.evaluation.protocol import Protocol
    from obdbench.execution.api import run
    from obdbench.objectives.objective import Objective
    from obdbench.offline_rl.api import train_teacher
    from obdbench.reporting.api import leaderboard
    from obdbench.reporting.grids.frame import load_results
    from obdbench.selection.selection_method import SelectionMethod
    from obdbench.tasks.registration import register_task
    from obdbench.tasks.task import Task
    from obdbench.teachers.loading import load_teacher
    from obdbench.teachers.teacher import Teacher

_LAZY = {
    "Dataset": "obdbench.datasets.dataset",
    "Evaluation": "obdbench.evaluation.api",
    "Objective": "obdbench.objectives.objective",
    "Protocol": "obdbench.evaluation.protocol",
    "SelectionMethod": "obdbench.selection.selection_method",
    "Solver": "obdbench.distillation.solvers.solver",
    "StateSource": "obdbench.distillation.state_sources.state_source",
    "Synset": "obdbench.distillation.synset",
    "Task": "obdbench.tasks.task",
    "Teacher": "obdbench.teachers.teacher",
    "distill": "obdbench.distillation.api",
    "evaluate": "obdbench.evaluation.api",
    "leaderboard": "obdbench.reporting.api",
    "load_dataset": "obdbench.datasets.loading",
    "load_results": "obdbench.reporting.grids.frame",
    "register_task": "obdbench.tasks.registration",
    "load_teacher": "obdbench.teachers.loading",
    "train_teacher": "obdbench.offline_rl.api",
    "run": "obdbench.execution.api",
}

__all__ = [
    "Dataset",
    "Evaluation",
    "Objective",
    "Protocol",
    "SelectionMethod",
    "Solver",
    "StateSource",
    "Synset",
    "Task",
    "Teacher",
    "__version__",
    "distill",
    "evaluate",
    "leaderboard",
    "load_dataset",
    "load_results",
    "load_teacher",
    "register_architecture",
    "register_dataset",
    "register_objective",
    "register_protocol",
    "register_selection",
    "register_solver",
    "register_state_source",
    "register_task",
    "register_teacher",
    "run",
    "train_teacher",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'obdbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
