"""The solvers of a distillation's two phases, and the memory that they need."""

from __future__ import annotations

import logging

from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.solvers.infinite_width import InfiniteWidth
from obdbench.distillation.solvers.solver import ProblemSize, Solver, make_solver
from obdbench.policies.networks import Architecture, get_architecture
from obdbench.registry import solvers

logger = logging.getLogger(__name__)


class PhaseSolvers:
    """The solver of the infinite-width phase, and the solver of the steps after it.

    ``memory`` is the limit in bytes for a step of either.
    """

    def __init__(self, settings: DistillSettings, memory: int) -> None:
        self.settings = settings
        self.infinite_width = InfiniteWidth(settings, memory)
        self.solver = make_solver(settings.solver, settings, memory)

    def at(self, step: int) -> Solver:
        """Return the solver of an outer step."""
        return self.infinite_width if step < self.settings.kernel_steps else self.solver

    def required_bytes(self, size: ProblemSize, first_step: int = 0) -> int:
        """Return the memory of the largest step from ``first_step`` on.

        Raises :class:`~obdbench.errors.InvalidSettingError` if it exceeds the limit.
        """
        last_step = self.settings.evaluation_steps[-1]
        if first_step >= last_step:
            return 0
        solvers = {self.at(step) for step in (first_step, last_step - 1)}
        return max(solver.required_bytes(size) for solver in solvers)


def infinite_width_share(settings: DistillSettings) -> float:
    """Return the share of the outer steps that use the infinite-width limit."""
    solver = solvers.get(settings.solver)
    return 1.0 if getattr(solver, "uses_infinite_width", False) else settings.kernel_share


def warn_kernel_mismatch(settings: DistillSettings) -> None:
    """Warn if infinite-width steps describe other students than those of the settings."""
    share, student = infinite_width_share(settings), get_architecture(settings.architecture)
    if share and (type(student) is not Architecture or student.residual):
        logger.warning(
            "%.0f%% of the steps use the infinite-width limit of a plain ReLU MLP, which is not "
            "that of %s. Use only exact steps: --set kernel_share=0 --set solver=full.",
            100 * share,
            settings.architecture,
        )
