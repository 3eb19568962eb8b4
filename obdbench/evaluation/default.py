"""Students of the distilling architecture: the score of the papers' main tables and figure 1."""

from __future__ import annotations

from typing import ClassVar

from obdbench.evaluation.protocol import Protocol


class Default(Protocol):
    """New students of the architecture of the distillation."""

    name: ClassVar[str] = "default"
