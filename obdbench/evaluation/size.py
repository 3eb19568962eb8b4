"""The default score of synsets of several sizes: the papers' table 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidSettingError, translate_validation_error
from obdbench.evaluation.protocol import Arm, Protocol, check_count


@dataclass(kw_only=True, eq=False)
class Size(Protocol):
    """The default students, on one distillation per size."""

    name: ClassVar[str] = "size"
    sizes: Sequence[int] = (16, 32, 64, 128, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sizes:
            raise InvalidSettingError("sizes is an empty list.", "List at least one size.")
        self.sizes = list(dict.fromkeys(check_count("sizes", size) for size in self.sizes))

    def variants(self, settings: DistillSettings) -> list[DistillSettings]:
        """One distillation per size."""
        fields = settings.model_dump()
        with translate_validation_error("Choose other sizes."):
            return [DistillSettings(**{**fields, "pairs": size}) for size in self.sizes]

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """The default students, named by the size of their synset."""
        return [Arm(str(settings.pairs), self.default_cloning(settings))]
