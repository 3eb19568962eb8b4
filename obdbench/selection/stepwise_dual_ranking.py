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

from typing import ClassVar

import numpy as np
import pandas as pd

from obdbench.datasets.dataset import Array, Dataset
from obdbench.datasets.episodes import time_steps
from obdbench.errors import InvalidDataError
from obdbench.objectives.density import log_density
from obdbench.objectives.objective import check_range, require_teacher
from obdbench.selection.selection_method import SelectionMethod
from obdbench.teachers.teacher import Teacher

SCALE = 100.0  # steps


class StepwiseDualRanking(SelectionMethod):
    """Uniform draws from transitions of high value and low density, by time step."""

    name: ClassVar[str] = "sdr"
    uses_teacher: ClassVar[bool] = True
    uses_critic: ClassVar[bool] = True

    def __init__(self, *, lambda_1: float = 0.05, lambda_2: float = 0.25) -> None:
        check_range("lambda_1", lambda_1, 0, 1)
        check_range("lambda_2", lambda_2, 0, 1)
        self.lambda_1, self.lambda_2 = lambda_1, lambda_2
        self._rows: tuple[Dataset, Teacher, Array] | None = None

    def select(
        self, dataset: Dataset, teacher: Teacher | None, pairs: int, rng: np.random.Generator
    ) -> Array:
        """Rows drawn from those that both rankings keep."""
        teacher = require_teacher(teacher, f"The selection method {self.name!r}")
        known = self._rows
        if known is None or known[0] is not dataset or known[1] is not teacher:
            teacher.require_critics(dataset.id)
            values = teacher.columns(dataset.observations)["teacher_q"]
            mask = self.keep(time_steps(dataset), values, log_density(dataset))
            known = self._rows = dataset, teacher, np.flatnonzero(mask)
        rows = known[2]
        if len(rows) < pairs:
            raise InvalidDataError(
                f"Stepwise dual ranking keeps {len(rows)} transitions of {dataset.id}, fewer than "
                f"{pairs} pairs.",
                "Lower lambda_1 and lambda_2.",
            )
        return np.asarray(rng.choice(rows, pairs, replace=False))

    def keep(self, steps: Array, values: Array, log_densities: Array) -> Array:
        """Which transitions both rankings keep."""
        frame = pd.DataFrame({"step": steps, "value": values, "density": log_densities})
        keep = np.zeros(len(frame), dtype=bool)
        for step, group in frame.groupby("step"):
            strength = np.tanh(float(step) / SCALE)  # type: ignore[arg-type]
            lowest_value = group["value"].quantile(self.lambda_1 * strength)
            highest_density = group["density"].quantile(1.0 - self.lambda_2 * strength)
            valuable, rare = group["value"] >= lowest_value, group["density"] <= highest_density
            keep[group.index[valuable & rare]] = True
        return keep
