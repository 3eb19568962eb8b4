r"""``obdbench tune``: settings searched by Ray Tune with ASHA, the best saved as a preset.

The criterion is *offline* by default: students are cloned on the synset and the objective is taken
on dataset states that the distillation did not see,

.. math:: C = \mathbb{E}_{\theta}\, H_{\mathrm{reference}}\big(\theta_T(\text{synset});\
          D_{\text{held out}}\big),

where the reference is the objective with its *default* parameters, so that a search over β or τ
compares like with like. The held-out states carry no noise, so that a search over ``smoothing`` by
this criterion is drawn to none. With ``returns`` it is minus the mean normalized return in the
environment, which offline methods may not look at: the preset says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.distillation.settings import DistillSettings
from obdbench.errors import InvalidDataError, InvalidSettingError, ObdError, unknown_name
from obdbench.experiments import presets
from obdbench.experiments.presets import Preset
from obdbench.experiments.suite import canonical_dataset
from obdbench.plugins import Plugin, load_plugins
from obdbench.registry import objectives

if TYPE_CHECKING:
    from obdbench.distillation.synset import Synset
    from obdbench.teachers.teacher import Teacher

DEFAULT_DATASETS = ("embedded/hopper-medium-replay-v0",)
CRITERIA = ("offline", "returns")
HELD_OUT, HELD_OUT_MAX = 0.1, 4096
STUDENTS = 4


@dataclass(frozen=True)
class Range:
    """Values of one setting: a list, or an interval, searched in the logarithm if positive."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def draw(self, rng: np.random.Generator) -> Any:
        """One value."""
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        if self.low > 0:
            return float(f"{math.exp(rng.uniform(math.log(self.low), math.log(self.high))):.4g}")
        return float(f"{rng.uniform(self.low, self.high):.4g}")


@dataclass(frozen=True)
class Search:
    """What is searched, on what, and by which criterion."""

    objective: str
    datasets: tuple[str, ...]
    space: tuple[Range, ...]
    trials: int = 16
    criterion: str = "offline"
    seeds: tuple[int, ...] = (0,)
    preset: str = "fast"
    settings: dict[str, Any] | None = None
    search_seed: int = 0
    held: Preset | None = None  # what ``preset`` names where the user typed it

    def starting(self) -> Preset:
        """The preset that the search starts from; workers get it from the driver."""
        return self.held or presets.load_preset(self.preset)

    def base(self) -> DistillSettings:
        """Settings without what is searched."""
        return self.starting().resolve(self.settings or {})


@dataclass(frozen=True)
class Tried:
    """One candidate and how far it came."""

    params: dict[str, Any]
    criterion: float
    step: int


@dataclass(frozen=True)
class Outcome:
    """The best candidate and the preset it became."""

    preset: Preset
    path: Path
    tried: tuple[Tried, ...]

    def text(self) -> str:
        """What the command prints."""
        lines = [
            f"{one.criterion:10.5g}  step {one.step:<6} "
            + (" ".join(f"{k}={v}" for k, v in one.params.items()) or "(as it is)")
            for one in self.tried[:10]
        ]
        kind = self.preset.provenance["criterion"]
        head = f"Best of {len(self.tried)} by the criterion {kind!r}, smallest first:"
        tail = f"Saved as {self.path}; use it with --preset {self.preset.name}."
        return "\n".join([head, *lines, tail])


def parse_space(texts: Sequence[str]) -> tuple[Range, ...]:
    """``outer_lr=0.001:0.1`` is an interval, ``beta=0,0.02`` a list."""
    ranges = []
    for text in texts:
        name, equals, values = text.partition("=")
        low, colon, high = values.partition(":")
        try:
            if not name.strip() or not equals or not values:
                raise ValueError
            if colon:
                bounds = float(low), float(high)
                if not bounds[0] < bounds[1]:
                    raise ValueError
                ranges.append(Range(name.strip(), (), *bounds))
            else:
                ranges.append(
                    Range(name.strip(), tuple(map(presets.parse_value, values.split(","))))
                )
        except ValueError:
            raise InvalidSettingError(
                f"{text!r} is no range.", "Write outer_lr=0.001:0.1 or beta=0,0.02,0.1."
            ) from None
    return tuple(ranges)


def candidates(search: Search) -> list[dict[str, Any]]:
    """Distinct draws from the space, each checked; the first is what stands without a search."""
    from obdbench.objectives.objective import make_objective, parameters_of

    settings_names = set(DistillSettings.model_fields)
    objective_names = set(parameters_of(objectives.get(search.objective)))
    for part in search.space:
        if part.name not in settings_names | objective_names:
            raise unknown_name("setting to search", part.name, settings_names | objective_names)
    rng = np.random.default_rng([search.search_seed, 11])
    found: list[dict[str, Any]] = [{}]
    for _ in range(50 * search.trials):
        if len(found) >= search.trials:
            break
        drawn = {part.name: part.draw(rng) for part in search.space}
        if drawn not in found:
            found.append(drawn)
    for one in found:
        split = Candidate.of(search, one)
        make_objective(search.objective, split.params)
    return found


@dataclass(frozen=True)
class Candidate:
    """A draw, split into settings and parameters of the objective."""

    settings: DistillSettings
    overrides: dict[str, Any]
    params: dict[str, Any]

    @classmethod
    def of(cls, search: Search, drawn: dict[str, Any]) -> Candidate:
        """The objective's own parameters first, settings of the distillation otherwise."""
        from obdbench.objectives.objective import parameters_of

        own = set(parameters_of(objectives.get(search.objective)))
        params = {name: value for name, value in drawn.items() if name in own}
        overrides = {**(search.settings or {})}
        overrides |= {name: value for name, value in drawn.items() if name not in own}
        preset = search.starting()
        held = preset.objectives.get(objectives.resolve_name(search.objective), {})
        return cls(preset.resolve(overrides), overrides, {**held, **params})


def measure(search: Search, drawn: dict[str, Any], device: str = "cpu") -> Iterator[Tried]:
    """The criterion of one candidate at every evaluation point, mean over datasets and seeds."""
    from obdbench.distillation.loop import distill_points
    from obdbench.objectives.objective import make_objective
    from obdbench.teachers.teacher import load_teacher

    one = Candidate.of(search, drawn)
    objective = make_objective(search.objective, one.params)
    parts, judges = [], []
    for dataset_id in search.datasets:
        whole = load_dataset(dataset_id)
        needed = objective.uses_teacher or one.settings.init == "top-q"
        teacher = load_teacher(dataset_id) if needed else None
        kept, held = split(whole)
        judges.append(judge(search, held, teacher, one.settings))
        parts.append(
            distill_points(
                kept, teacher, objective, one.settings, list(search.seeds), device=device
            )
        )
    for points in zip(*parts, strict=True):
        values = [
            value for judged, point in zip(judges, points, strict=True) for value in judged(point)
        ]
        yield Tried(drawn, float(np.mean(values)), points[0].step)


def split(whole: Dataset) -> tuple[Dataset, Dataset]:
    """The dataset without some states, and these; the same for every candidate."""
    held_size = min(HELD_OUT_MAX, max(1, round(HELD_OUT * len(whole))))
    if held_size >= len(whole):
        raise InvalidDataError(
            f"{whole.id} is too small to hold states out.", "Tune on a larger one."
        )
    order = np.random.default_rng([0, 12]).permutation(len(whole))
    rows = np.sort(order[held_size:]), np.sort(order[:held_size])
    kept, held = (
        replace(
            whole,
            observations=whole.observations[index],
            actions=whole.actions[index],
            rewards=whole.rewards[index],
            terminals=whole.terminals[index],
            next_observations=None,
            timeouts=None,
        )
        for index in rows
    )
    return kept, held


def judge(
    search: Search, held: Dataset, teacher: Teacher | None, settings: DistillSettings
) -> Callable[[Any], list[float]]:
    """The criterion at one evaluation point: one number a seed, smaller is better."""
    import torch

    from obdbench.evaluation import students
    from obdbench.evaluation.protocol import make_protocol
    from obdbench.objectives.objective import Batch, make_objective, tensor

    protocol = make_protocol("default", {"policies": STUDENTS})
    if search.criterion == "returns":

        def returns(point: Any) -> list[float]:
            scored = protocol.score(point.synsets, settings, list(search.seeds))
            return [-one.normalized_return for one in scored]

        return returns

    reference = make_objective(search.objective, {})
    own = reference.prepare(held, teacher, np.random.default_rng([0, 13]))
    columns = {"actions": tensor(held.actions), **own}
    for name in reference.noise_columns:
        columns[name] = torch.zeros(len(held), held.action_size)
    how = protocol.cloning(settings)

    def offline(point: Any) -> list[float]:
        synsets: list[Synset] = point.synsets
        params = students.train(how, synsets, list(search.seeds), STUDENTS, settings)
        states = tensor(synsets[0].standardizer.apply(held.observations))
        stack = len(synsets) * STUDENTS
        every = {**columns, "states": states}
        batch = Batch({name: column.expand(stack, *column.shape) for name, column in every.items()})
        with torch.no_grad():
            actions = how.architecture.act(params, batch.states)
            losses = reference.loss(actions, batch)
        return [float(value) for value in losses.reshape(len(synsets), STUDENTS).mean(1)]

    return offline


def tune(
    search: Search,
    *,
    name: str,
    plugins: Sequence[str] = (),
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    device: str = "cpu",
) -> Outcome:
    """Search, and save the best candidate as the preset ``name``."""
    from obdbench.execution.run import ExecutionConfig, check_device

    presets.check_new_preset(name)
    load_plugins(loaded := [Plugin.read(reference) for reference in plugins])
    if search.criterion not in CRITERIA:
        raise unknown_name("criterion", search.criterion, CRITERIA)
    if not search.space:
        raise InvalidSettingError("Nothing is to be searched.", "Name settings with --param.")
    if not objectives.get(search.objective).distils:
        raise InvalidSettingError(f"{search.objective!r} takes no steps.", "There is no tuning it.")
    search = replace(
        search,
        objective=objectives.resolve_name(search.objective),
        datasets=tuple(map(canonical_dataset, search.datasets)),
        held=presets.load_preset(search.preset),
    )
    drawn = candidates(search)
    for one in drawn:  # what a preset cannot hold is said before the work, not after it
        for value in Candidate.of(search, one).overrides.values():
            presets.format_toml_value(value)
    options = ExecutionConfig(
        executor="ray", address=address, workers=workers, threads=threads, device=device
    )
    if address is None:
        check_device(device)

    from obdbench.tuning.asha import search_with_asha

    tried = search_with_asha(
        search,
        drawn,
        loaded,
        address=address,
        workers=workers if address else options.crew(),
        threads=threads,
        device=device,
    )
    if not tried or not math.isfinite(tried[0].criterion):
        raise ObdError(
            "No candidate reached an evaluation point with a finite criterion.",
            "Try other ranges; nothing was saved.",
        )
    best = tried[0]
    chosen = Candidate.of(search, best.params)
    held = search.starting()
    preset = Preset(
        name=name,
        base=held.base,
        summary=f"{search.objective} tuned on {', '.join(search.datasets)} ({search.criterion})",
        settings={**held.settings, **chosen.overrides},
        objectives={
            **held.objectives,
            **({search.objective: chosen.params} if chosen.params else {}),
        },
        provenance={
            "criterion": search.criterion,
            "value": best.criterion,
            "step": best.step,
            "trials": len(tried),
            "seeds": list(search.seeds),
            "search_seed": search.search_seed,
            "datasets": list(search.datasets),
        },
    )
    return Outcome(preset, presets.save_preset(preset), tuple(tried))
