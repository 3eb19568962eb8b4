"""Students trained with other optimizers: the papers' table 2, right part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidSettingError
from obdbench.evaluation.protocol import (
    MIN_LEARNING_RATE,
    PUBLISHED_STEPS,
    STEPS,
    Arm,
    Protocol,
)
from obdbench.objectives.objective import check_choice, check_range
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import get_architecture
from obdbench.policies.optimizers import get_optimizer

Setting = Literal["own", "stated", "as-run"]
OTHER_OPTIMIZERS = ("adam", "adamw", "sgdm")


class CrossOptimizer(Protocol):
    """Students of the architecture of the distillation, trained with other optimizers.

    ``setting`` is ``own``: 100 steps at the learning rates in ``rates``, which suit each optimizer;
    ``stated``: 500 steps at 0.1 with every optimizer, as the public script states; or ``as-run``:
    the same with plain SGD under every name, which that script may have run in fact, because it
    sets an attribute ``optimier`` that nothing reads.
    """

    name: ClassVar[str] = "cross-optimizer"

    def __init__(
        self,
        *,
        rates: Mapping[str, float] | None = None,
        setting: Setting = "own",
        policies: int = 10,
        episodes: int = 3,
        points: int | None = 5,
        steps: int | None = None,
    ) -> None:
        default_steps = STEPS if setting == "own" else PUBLISHED_STEPS
        super().__init__(
            policies=policies,
            episodes=episodes,
            points=points,
            steps=default_steps if steps is None else steps,
        )
        check_choice("cross-optimizer setting", setting, get_args(Setting))
        self.setting = setting
        if rates and setting != "own":
            raise InvalidSettingError(
                f"rates has no effect under the setting {setting!r}, whose rate is {self.lr}.",
                "Omit rates, or choose the setting own.",
            )
        for optimizer, rate in (rates or {}).items():
            name = get_optimizer(optimizer).name
            check_range(f"the learning rate of {name}", rate, MIN_LEARNING_RATE, 100.0)
        self.rates = dict(rates) if rates else None

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """One arm per optimizer."""
        architecture = get_architecture(settings.architecture)
        arms = []
        rates = self.rates or {
            name: get_optimizer(name).default_lr if self.setting == "own" else self.lr
            for name in OTHER_OPTIMIZERS
        }
        for name, lr in rates.items():
            optimizer = get_optimizer("sgd" if self.setting == "as-run" else name)
            arms.append(Arm(name, CloningConfig(architecture, optimizer, lr, self.steps)))
        return arms
