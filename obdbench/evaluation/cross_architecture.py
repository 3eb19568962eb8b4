"""Students of other architectures, trained with SGD: the papers' table 2, left part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidSettingError
from obdbench.evaluation.protocol import LEARNING_RATE, PUBLISHED_STEPS, STEPS, Arm, Protocol
from obdbench.objectives.objective import check_flag
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import get_architecture
from obdbench.policies.optimizers import get_optimizer
from obdbench.registry import architectures as known_architectures


class CrossArchitecture(Protocol):
    """Students of other architectures.

    ``published`` trains them for 500 steps at learning rate 0.1, as the public evaluation code
    does.
    """

    name: ClassVar[str] = "cross-architecture"

    def __init__(
        self,
        *,
        architectures: Sequence[str] = ("mlp2", "mlp3", "mlp5", "mlp6", "residual"),
        policies: int = 10,
        episodes: int = 3,
        points: int | None = 5,
        steps: int | None = None,
        lr: float = LEARNING_RATE,
        published: bool = False,
    ) -> None:
        check_flag("published", published)
        default_steps = PUBLISHED_STEPS if published else STEPS
        super().__init__(
            policies=policies,
            episodes=episodes,
            points=points,
            steps=default_steps if steps is None else steps,
            lr=lr,
        )
        if isinstance(architectures, str) or not architectures:
            raise InvalidSettingError(
                f"architectures is {architectures!r}.", "Write a list of names."
            )
        names = [known_architectures.resolve_name(name) for name in architectures]
        self.architectures = list(dict.fromkeys(names))
        self.published = published

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """One arm per architecture."""
        sgd = get_optimizer("sgd")
        return [
            Arm(name, CloningConfig(get_architecture(name), sgd, self.lr, self.steps))
            for name in self.architectures
        ]
