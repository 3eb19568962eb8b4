"""Checks that need no data: whether a solver and a state source can use an objective."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.solvers.solver import make_solver
from obdbench.distillation.solvers.squared_distance import not_squared_distance
from obdbench.distillation.state_sources.state_source import adds_states
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import Objective


def check_compatible(objectives: Iterable[Objective], settings: Iterable[DistillSettings]) -> None:
    """Raise one error that states every objective and settings that do not work together."""
    errors = []
    for objective, each in product(objectives, settings):
        try:
            if objective.distills:
                _check_pair(objective, each)
        except InvalidSettingError as error:
            errors.append(error)
    if errors:
        raise InvalidSettingError(
            " ".join(dict.fromkeys(error.cause for error in errors)),
            " ".join(dict.fromkeys(error.remedy for error in errors)),
        )


def _check_pair(objective: Objective, settings: DistillSettings) -> None:
    if adds_states(settings) and not objective.uses_teacher:
        raise InvalidSettingError(
            f"The objective {objective.name!r} uses no teacher, and the states that the state "
            f"source {settings.state_source!r} adds have no recorded actions.",
            "Use an objective with a teacher, or set state_source=smoothed.",
        )
    solver = make_solver(settings.solver, settings)
    if solver.needs_squared_distance and not objective.is_squared_distance:
        raise not_squared_distance(solver.name, objective)
