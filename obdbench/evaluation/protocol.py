r"""Protocols: how a synset is scored.

All of them train fresh students on the synset, run deterministic episodes in the D4RL-comparable
environment and normalize the mean return as D4RL does. They differ in which student is trained
(*arms*), in how students act, and in which synsets they look at. Returns are kept per policy and
episode; the seed is the unit of every statistic made of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ValidationError

from obdbench.distillation.settings import DistillSettings, format_validation_error
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidDataError, InvalidSettingError, unknown_name
from obdbench.evaluation import students
from obdbench.objectives.objective import check_flag, check_range
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import get_architecture
from obdbench.policies.optimizers import get_optimizer
from obdbench.registry import architectures as known
from obdbench.registry import construct, protocols
from obdbench.tasks.task import normalized_return

STEPS, LR = 100, 0.1
PUBLISHED_STEPS = 500
TINY = 1e-12  # the least learning rate that still means one


@dataclass(frozen=True)
class SeedScore:
    """One seed under one arm."""

    seed: int
    arm: str
    returns: list[list[float]]
    normalized_return: float


@dataclass(frozen=True)
class Arm:
    """One way of training students, by name."""

    name: str
    how: CloningConfig


class Protocol:
    """Base class: P fresh students an arm, E episodes each.

    Settings are the keyword arguments of ``__init__``. ``policies`` and ``episodes`` say how much
    is run; ``points`` how many of the last evaluation points are scored (all where it is None);
    ``steps`` and ``lr`` how students train: 100 steps of SGD at 0.1, as published, whatever inner
    loop the synset was distilled with.
    """

    name: ClassVar[str] = ""

    def __init__(
        self,
        *,
        policies: int = 10,
        episodes: int = 3,
        points: int | None = None,
        steps: int = STEPS,
        lr: float = LR,
    ) -> None:
        self.policies = _positive("policies", policies)
        self.episodes = _positive("episodes", episodes)
        self.points = None if points is None else _positive("points", points)
        self.steps = _positive("steps", steps)
        check_range("lr", lr, TINY, 100.0)
        self.lr = float(lr)

    def settings(self) -> dict[str, Any]:
        """The settings by name, JSON-serializable: what ``__init__`` takes."""
        return {name: getattr(self, name) for name in _parameters(type(self))}

    def select(self, steps: list[int]) -> list[int]:
        """Which of a distillation's evaluation points are scored."""
        return sorted(steps)[-(self.points or len(steps)) :]

    def variants(self, settings: DistillSettings) -> list[DistillSettings]:
        """The distillations this protocol needs; all but ``size`` need the one."""
        return [settings]

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """The students to train."""
        return [Arm("default", self.cloning(settings))]

    def cloning(self, settings: DistillSettings) -> CloningConfig:
        """The distilling architecture, trained as this protocol says."""
        return CloningConfig(
            get_architecture(settings.architecture), get_optimizer("sgd"), self.lr, self.steps
        )

    def score(
        self, synsets: Sequence[Synset], settings: DistillSettings, seeds: Sequence[int]
    ) -> list[SeedScore]:
        """Every seed's synset under every arm."""
        scored = []
        arms = self.arms(settings)
        if len({arm.name for arm in arms}) < len(arms):
            raise InvalidSettingError(
                f"The protocol {self.name!r} has several arms of one name.",
                "Name every arm differently.",
            )
        for arm in arms:
            params = students.train_students(arm.how, synsets, seeds, self.policies, settings)
            returns = self.play(arm.how, params, synsets, seeds)
            for seed, synset, own in zip(seeds, synsets, returns, strict=True):
                mean = float(np.mean(normalized_return(synset.task, own)))
                scored.append(SeedScore(seed, arm.name, own.tolist(), mean))
        return scored

    def play(
        self, how: CloningConfig, params: Any, synsets: Sequence[Synset], seeds: Sequence[int]
    ) -> Any:
        """Raw returns, (seed, policy, episode)."""
        return students.score_students(how, params, synsets, seeds, self.policies, self.episodes)


class Default(Protocol):
    """P fresh policies of the distilling architecture, E episodes each."""

    name: ClassVar[str] = "default"


class Convergence(Default):
    """The default score at every evaluation point: the papers' figure 1."""

    name: ClassVar[str] = "convergence"

    def select(self, steps: list[int]) -> list[int]:
        """All of them."""
        return sorted(steps)


class CrossArchitecture(Protocol):
    """Students of other architectures, trained with SGD; the papers' table 2, left part.

    ``published`` trains for 500 steps at learning rate 0.1 as the public evaluation code does.
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
        lr: float = LR,
        published: bool = False,
    ) -> None:
        super().__init__(
            policies=policies,
            episodes=episodes,
            points=points,
            steps=(PUBLISHED_STEPS if published else STEPS) if steps is None else steps,
            lr=lr,
        )
        check_flag("published", published)
        if isinstance(architectures, str) or not architectures:
            raise InvalidSettingError(f"architectures is {architectures!r}.", "Write a list.")
        self.architectures = list(dict.fromkeys(known.resolve_name(name) for name in architectures))
        self.published = published

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """One arm an architecture."""
        sgd = get_optimizer("sgd")
        return [
            Arm(name, CloningConfig(get_architecture(name), sgd, self.lr, self.steps))
            for name in self.architectures
        ]


class CrossOptimizer(Protocol):
    """Students of the distilling architecture trained by other optimizers; table 2, right part.

    ``setting`` is ``own``: the learning rates in ``rates``, which suit each optimizer, for 100
    steps; ``stated``: 500 steps at 0.1 for every optimizer, as the public
    script states; ``as-run``: the same with plain SGD under every name, which is what that script
    may in fact have run, since it sets an attribute ``optimier`` that nothing reads.
    """

    name: ClassVar[str] = "cross-optimizer"

    def __init__(
        self,
        *,
        rates: Mapping[str, float] | None = None,
        setting: Literal["own", "stated", "as-run"] = "own",
        policies: int = 10,
        episodes: int = 3,
        points: int | None = 5,
        steps: int | None = None,
    ) -> None:
        super().__init__(
            policies=policies,
            episodes=episodes,
            points=points,
            steps=(STEPS if setting == "own" else PUBLISHED_STEPS) if steps is None else steps,
        )
        if setting not in ("own", "stated", "as-run"):
            raise unknown_name("cross-optimizer setting", setting, ("own", "stated", "as-run"))
        self.setting = setting
        rates = dict(rates) if rates else {"adam": 1e-3, "adamw": 1e-3, "sgdm": 1e-2}
        for optimizer, rate in rates.items():
            check_range(f"the rate of {get_optimizer(optimizer).name}", rate, TINY, 100.0)
        self.rates = rates

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """One arm an optimizer."""
        architecture = get_architecture(settings.architecture)
        own = self.setting == "own"
        return [
            Arm(
                name,
                CloningConfig(
                    architecture,
                    get_optimizer("sgd" if self.setting == "as-run" else name),
                    rate if own else self.lr,
                    self.steps,
                ),
            )
            for name, rate in self.rates.items()
        ]


class Ensemble(Protocol):
    """Ten policies act as one by their mean action; the papers' table 3."""

    name: ClassVar[str] = "ensemble"

    def __init__(
        self,
        *,
        policies: int = 10,
        episodes: int = 10,
        points: int | None = 5,
        steps: int = STEPS,
        lr: float = LR,
    ) -> None:
        super().__init__(policies=policies, episodes=episodes, points=points, steps=steps, lr=lr)

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """The default student."""
        return [Arm("ensemble", self.cloning(settings))]

    def play(
        self, how: CloningConfig, params: Any, synsets: Sequence[Synset], seeds: Sequence[int]
    ) -> Any:
        """One row of episodes a seed."""
        return students.score_ensemble(how, params, synsets, seeds, self.policies, self.episodes)


class Size(Default):
    """The default score for synsets of several sizes; the papers' table 5."""

    name: ClassVar[str] = "size"

    def __init__(
        self,
        *,
        sizes: Sequence[int] = (16, 32, 64, 128, 256),
        policies: int = 10,
        episodes: int = 3,
        points: int | None = None,
        steps: int = STEPS,
        lr: float = LR,
    ) -> None:
        super().__init__(policies=policies, episodes=episodes, points=points, steps=steps, lr=lr)
        if not sizes:
            raise InvalidSettingError("sizes is an empty list.", "Name at least one.")
        self.sizes = list(dict.fromkeys(_positive("sizes", size) for size in sizes))

    def variants(self, settings: DistillSettings) -> list[DistillSettings]:
        """One distillation a size."""
        own = settings.model_dump()
        try:
            return [DistillSettings(**{**own, "pairs": size}) for size in self.sizes]
        except ValidationError as error:
            raise InvalidSettingError(format_validation_error(error), "Mend the sizes.") from error

    def arms(self, settings: DistillSettings) -> list[Arm]:
        """The default student, named by the size of its synset."""
        return [Arm(str(settings.pairs), self.cloning(settings))]


def _positive(name: str, value: int) -> int:
    if type(value) is not int or not 1 <= value <= 1_000_000:
        raise InvalidSettingError(f"{name} is {value!r}.", "It is a positive whole number.")
    return value


def _parameters(protocol: type[Protocol]) -> list[str]:
    return list(inspect.signature(protocol.__init__).parameters)[1:]


def make_protocol(name: str, params: Mapping[str, Any] | None = None) -> Protocol:
    """A protocol by name with its settings checked."""
    found = protocols.get(name)
    if not (isinstance(found, type) and issubclass(found, Protocol)):
        raise InvalidSettingError(
            f"The protocol {name!r} is no Protocol.", "Derive it from obdbench's Protocol."
        )
    for key in params or {}:
        if key not in _parameters(found):
            raise unknown_name(f"setting of {name}", key, _parameters(found))
    made: Protocol = construct("protocol", name, found, params or {})
    return made


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` returns: one score an arm, with the returns behind it."""

    protocol: str
    scores: dict[str, float]
    returns: dict[str, list[list[float]]] = field(repr=False)

    @property
    def normalized_return(self) -> float:
        """Mean over the arms."""
        return float(np.mean(list(self.scores.values())))


def evaluate(
    synset: Synset | Path | str,
    protocol: str | Protocol = "default",
    *,
    seed: int | None = None,
    **params: Any,
) -> Evaluation:
    """Score one synset, or that of a file; its card says its students' architecture and noise.

    Students and episodes are drawn for ``seed``. Without one it is the seed the synset was
    distilled with, as in ``obdbench run``; 0 where its card names none.
    """
    if isinstance(synset, str | Path):
        synset = Synset.load(synset)
    if not isinstance(synset, Synset):
        raise InvalidSettingError(
            f"evaluate() was given a {type(synset).__name__}.", "Give a Synset, or its file's path."
        )
    chosen = make_protocol(protocol, params) if isinstance(protocol, str) else protocol
    stored = synset.card.get("settings")
    try:
        settings = DistillSettings(**stored) if isinstance(stored, Mapping) else DistillSettings()
    except (ValidationError, TypeError) as error:
        reason = (
            format_validation_error(error) if isinstance(error, ValidationError) else f"{error}."
        )
        raise InvalidDataError(
            f"The synset's card holds settings that cannot be used: {reason}", "Distil it again."
        ) from error
    if seed is None:
        seed = students.read_card_integer(synset, "seed", "Give evaluate() a seed.")
    scored = chosen.score([synset], settings, [seed])
    return Evaluation(
        chosen.name,
        {s.arm: s.normalized_return for s in scored},
        {s.arm: s.returns for s in scored},
    )
