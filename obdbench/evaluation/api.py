"""Score one synset from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidDataError, InvalidSettingError, format_validation_error
from obdbench.evaluation.protocol import Protocol, make_protocol
from obdbench.evaluation.students import read_card_integer
from obdbench.policies.device import check_seed


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`evaluate`: the score and the raw returns of each arm."""

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
    """Score a synset or a synset file; its card states the architecture and noise of the students.

    ``seed`` determines the students and episodes. The default is the seed of the distillation, as
    in ``obdbench run``, or 0 if the card states none.
    """
    if isinstance(synset, str | Path):
        synset = Synset.load(synset)
    if not isinstance(synset, Synset):
        raise InvalidSettingError(
            f"evaluate() received a {type(synset).__name__}.",
            "Pass a Synset, or the path of a synset file.",
        )
    if isinstance(protocol, str):
        protocol = make_protocol(protocol, params)
    elif params:
        raise InvalidSettingError(
            f"evaluate() received a protocol object and its settings {sorted(params)}.",
            "Pass the settings to the constructor of the protocol.",
        )
    if seed is None:
        seed = read_card_integer(synset, "seed", "Pass a seed to evaluate().")
    check_seed(seed)
    scores = protocol.score([synset], _settings_of(synset), [seed])
    return Evaluation(
        protocol.name,
        {score.arm: score.normalized_return for score in scores},
        {score.arm: score.returns for score in scores},
    )


def _settings_of(synset: Synset) -> DistillSettings:
    stored = synset.card.get("settings")
    try:
        return DistillSettings(**stored) if isinstance(stored, Mapping) else DistillSettings()
    except (ValidationError, TypeError) as error:
        reason = (
            format_validation_error(error) if isinstance(error, ValidationError) else f"{error}."
        )
        raise InvalidDataError(
            f"The synset's card contains settings that cannot be used: {reason}",
            "Distill the synset again.",
        ) from error
