r"""Stepwise dual ranking, SDR (Lei, Cheng and Tao, 2025, arXiv 2512.18246).

Transitions are grouped by their time step t within the episode. A group keeps the transitions

.. math::

    q \ge \mathrm{quantile}_{\lambda_1 \tanh(t / 100)}(q), \qquad
    \log p \le \mathrm{quantile}_{1 - \lambda_2 \tanh(t / 100)}(\log p),

with the teacher's value :math:`q = q(s, \pi^*(s))` and the density p of the state, so that early
steps are all kept and later ones only where valuable and rare. Pairs are drawn uniformly from what
is kept. The defaults are those of the published code. The published method labels the states with
the teacher's actions (``labels = "teacher"``); its value is a mean over ten sampled actions and one
critic, here it is that of the deterministic action and the smaller critic. Density comes from the
normalizing flow of :mod:`obdbench.objectives.density`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import pandas as pd

from obdbench.datasets.dataset import Array, Dataset, time_steps
from obdbench.errors import InvalidDataError
from obdbench.objectives.density import log_density
from obdbench.objectives.objective import check_range, require_teacher
from obdbench.selection.selection_method import SelectionMethod
from obdbench.teachers.teacher import Teacher

SCALE = 100.0  # steps


@dataclass(kw_only=True, eq=False)
class StepwiseDualRanking(SelectionMethod):
    """Uniform draws from transitions of high value and low density, by time step."""

    name: ClassVar[str] = "sdr"
    uses_teacher: ClassVar[bool] = True
    uses_critic: ClassVar[bool] = True
    lambda_1: float = 0.05
    lambda_2: float = 0.25

    def __post_init__(self) -> None:
        check_range("lambda_1", self.lambda_1, 0, 1)
        check_range("lambda_2", self.lambda_2, 0, 1)

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows drawn from those that both rankings keep."""
        teacher = require_teacher(teacher, f"The selection method {self.name!r}")
        rows = ranked_rows(dataset, teacher, self.lambda_1, self.lambda_2)
        if len(rows) < pairs:
            raise InvalidDataError(
                f"Stepwise dual ranking keeps {len(rows)} transitions of {dataset.id}, fewer than "
                f"{pairs} pairs.",
                "Lower lambda_1 and lambda_2.",
            )
        return np.asarray(rng.choice(rows, pairs, replace=False))


@lru_cache(maxsize=1)  # seeds share the dataset and the teacher
def ranked_rows(dataset: Dataset, teacher: Teacher, lambda_1: float, lambda_2: float) -> Array:
    """Rows of the transitions that both rankings keep."""
    teacher.require_critics(dataset.id)
    values = teacher.columns(dataset.observations)["teacher_q"]
    mask = rank_by_step(time_steps(dataset), values, log_density(dataset), lambda_1, lambda_2)
    return np.flatnonzero(mask)


def rank_by_step(
    steps: Array, values: Array, log_densities: Array, lambda_1: float, lambda_2: float
) -> Array:
    """Which transitions both rankings keep."""
    frame = pd.DataFrame({"step": steps, "value": values, "density": log_densities})
    kept = np.zeros(len(frame), dtype=bool)
    for step, group in frame.groupby("step"):
        strength = np.tanh(float(step) / SCALE)  # type: ignore[arg-type]
        lowest_value = group["value"].quantile(lambda_1 * strength)
        highest_density = group["density"].quantile(1.0 - lambda_2 * strength)
        valuable, rare = group["value"] >= lowest_value, group["density"] <= highest_density
        kept[group.index[valuable & rare]] = True
    return kept
