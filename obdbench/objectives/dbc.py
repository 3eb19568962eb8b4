r"""DBC, data-based behavioral cloning distance.

.. math:: H(\pi) = \mathbb{E}_{(s, a) \sim D}\; \lVert \pi(s) - a \rVert^2

Lei, Zhang and Tao, 2024, arXiv 2410.22728, introduce it as the naive objective. As in all
objectives of this project, the squared norm is averaged over action dimensions.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from obdbench.objectives.objective import Batch, Objective, squared_error


class DBC(Objective):
    """Squared distance to the data's actions."""

    name: ClassVar[str] = "dbc"
    uses_teacher: ClassVar[bool] = False

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        """Mean over the batch."""
        return squared_error(actions, batch.actions).mean(-1)
