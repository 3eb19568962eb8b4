"""The default score of synsets of several sizes: the papers' table 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ValidationError

from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidSettingError, format_validation_error
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
        try:
            return [DistillSettings(**{**fields, "pairs": size}) for size in self.sizes]
        except ValidationError as error:
            raise InvalidSettingError(
                format_validation_error(error), "Choose other sizes."
            ) from error

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """The default students, named by the size of their synset."""
        return [Arm(str(settings.pairs), self.default_cloning(settings))]
