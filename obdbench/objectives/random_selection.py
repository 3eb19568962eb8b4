"""Random selection: the synset is N real pairs drawn uniformly. The floor of every table."""

from __future__ import annotations

from typing import ClassVar

from obdbench.objectives.objective import Objective


class RandomSelection(Objective):
    """Real pairs drawn uniformly without replacement; nothing is distilled."""

    name: ClassVar[str] = "random"
    uses_teacher: ClassVar[bool] = False
    distils: ClassVar[bool] = False
