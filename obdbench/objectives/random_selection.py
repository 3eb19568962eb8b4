"""Random selection: the synset consists of N data pairs drawn uniformly, the control row."""

from __future__ import annotations

from typing import ClassVar

from obdbench.objectives.objective import Objective


class RandomSelection(Objective):
    """Data pairs drawn uniformly without replacement, not distilled."""

    name: ClassVar[str] = "random"
    uses_teacher: ClassVar[bool] = False
    distils: ClassVar[bool] = False
