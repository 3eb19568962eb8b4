"""What a search varies: ranges of settings, and the candidates drawn from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from obdbench.distillation.input_checks import check_compatible
from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidSettingError, unknown_name
from obdbench.experiments import presets
from obdbench.experiments.presets import Preset
from obdbench.objectives.objective import make_objective
from obdbench.registry import objectives, parameters_of

MAX_DRAWS_PER_CANDIDATE = 50


@dataclass(frozen=True)
class ParameterRange:
    """Values of one setting: a list, or an interval.

    A value is drawn uniformly, in a positive interval uniformly in the logarithm. Values of integer
    settings are rounded.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def draw_value(self, rng: np.random.Generator) -> Any:
        """Draw a value; numbers of an interval are rounded to four significant digits."""
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        if self.low > 0:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        field = DistillSettings.model_fields.get(self.name)
        if field is not None and field.annotation in (int, int | None):
            return round(value)
        return float(f"{value:.4g}")


def parse_ranges(texts: Sequence[str]) -> tuple[ParameterRange, ...]:
    """Parse ranges: ``outer_lr=0.001:0.1`` is an interval, ``beta=0.01,0.1`` a list."""
    return tuple(map(_parse_range, texts))


def _parse_range(text: str) -> ParameterRange:
    name, _, values = text.partition("=")
    low, colon, high = values.partition(":")
    try:
        if not name.strip() or not values:
            raise ValueError
        if not colon:
            return ParameterRange(name.strip(), tuple(map(presets.parse_value, values.split(","))))
        bounds = float(low), float(high)
        if not bounds[0] < bounds[1] or not all(map(math.isfinite, bounds)):
            raise ValueError
        return ParameterRange(name.strip(), (), *bounds)
    except ValueError:
        raise InvalidSettingError(
            f"{text!r} is not a range.", "Write outer_lr=0.001:0.1 or beta=0.01,0.1."
        ) from None


@dataclass(frozen=True)
class SearchConfig:
    """What is searched, on which datasets, and by which criterion."""

    objective: str
    datasets: tuple[str, ...]
    ranges: tuple[ParameterRange, ...]
    trials: int = 16
    criterion: str = "offline"
    seeds: tuple[int, ...] = (0,)
    preset: Preset = field(default_factory=lambda: presets.load_preset("fast"))
    settings: dict[str, Any] = field(default_factory=dict)  # overrides of the preset's
    search_seed: int = 0
    teachers: Mapping[str, str] = field(default_factory=dict)  # by dataset: a name or a path


@dataclass(frozen=True)
class Candidate:
    """Drawn values, divided into settings of the distillation and parameters of the objective."""

    draw: dict[str, Any]  # empty for the first candidate, which changes nothing
    settings: DistillSettings
    overrides: dict[str, Any]  # of the preset's settings
    objective_params: dict[str, Any]

    @classmethod
    def from_draw(cls, search: SearchConfig, draw: dict[str, Any]) -> Candidate:
        """A name that the objective has as a parameter means that parameter."""
        names = set(parameters_of(objectives.get(search.objective)))
        params = {name: value for name, value in draw.items() if name in names}
        overrides = search.settings | {n: v for n, v in draw.items() if n not in names}
        preset_params = search.preset.objectives.get(search.objective, {})
        settings = search.preset.resolve(overrides)
        return cls(draw, settings, overrides, {**preset_params, **params})


def draw_candidates(search: SearchConfig) -> list[Candidate]:
    """Draw distinct candidates and check each; the first one changes nothing."""
    known = {*DistillSettings.model_fields, *parameters_of(objectives.get(search.objective))}
    for parameter in search.ranges:
        if parameter.name not in known:
            raise unknown_name("setting to search", parameter.name, known)
    rng = np.random.default_rng([search.search_seed, 11])
    draws: list[dict[str, Any]] = [{}]
    for _ in range(MAX_DRAWS_PER_CANDIDATE * search.trials):
        if len(draws) >= search.trials:
            break
        draw = {parameter.name: parameter.draw_value(rng) for parameter in search.ranges}
        if draw not in draws:
            draws.append(draw)
    candidates = [Candidate.from_draw(search, draw) for draw in draws]
    for candidate in candidates:
        objective = make_objective(search.objective, candidate.objective_params)
        check_compatible([objective], [candidate.settings])
    return candidates
