"""obdbench: benchmark suite for offline behavior distillation.

Public names are imported on first use, so that ``import obdbench`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from obdbench import registry
from obdbench.version import __version__ as __version__

if TYPE_CHECKING:
    from obdbench.datasets.dataset import Dataset as Dataset
    from obdbench.datasets.loading import load_dataset as load_dataset
    from obdbench.distillation.api import distill as distill
    from obdbench.distillation.solvers.solver import Solver as Solver
    from obdbench.distillation.state_sources.state_source import StateSource as StateSource
    from obdbench.distillation.synset import Synset as Synset
    from obdbench.evaluation.api import Evaluation as Evaluation
    from obdbench.evaluation.api import evaluate as evaluate
    from obdbench.evaluation.protocol import Protocol as Protocol
    from obdbench.execution.api import run as run
    from obdbench.objectives.objective import Objective as Objective
    from obdbench.offline_rl.api import train_teacher as train_teacher
    from obdbench.reporting.api import leaderboard as leaderboard
    from obdbench.reporting.grids.frame import load_results as load_results
    from obdbench.selection.selection_method import SelectionMethod as SelectionMethod
    from obdbench.tasks.registration import register_task as register_task
    from obdbench.tasks.task import Task as Task
    from obdbench.teachers.loading import load_teacher as load_teacher
    from obdbench.teachers.teacher import Teacher as Teacher

register_objective = registry.objectives.register
register_selection = registry.selections.register
register_state_source = registry.state_sources.register
register_solver = registry.solvers.register
register_dataset = registry.datasets.register
register_protocol = registry.protocols.register
register_architecture = registry.architectures.register
register_teacher = registry.teachers.register

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

__all__ = sorted(
    ["__version__", *_LAZY, *(name for name in globals() if name.startswith("register_"))]
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'obdbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
