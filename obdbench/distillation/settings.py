"""Settings of a distillation, and the presets that name combinations of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from obdbench.errors import (
    InvalidSettingError,
    UnknownNameError,
    format_validation_error,
    unknown_name,
)
from obdbench.registry import objectives, parameters_of, selections, solvers, state_sources

TRUNCATED_SOLVERS = ("truncated", "random-truncated")
Noise = Literal["none", "exact", "published"]


class DistillSettings(BaseModel):
    """Settings of the outer loop and of the inner loop, which clones students on the synset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: int = Field(
        256, ge=1, le=65_536, description="Number of state-action pairs in the synset"
    )
    architecture: str = Field("mlp4", description="Architecture of the student")
    inner_optimizer: Literal["sgd", "sgdm", "adam", "adamw"] = Field(
        "sgd", description="Optimizer that trains a student on the synset"
    )
    inner_lr: float = Field(0.1, gt=0, le=100, description="Learning rate of the inner optimizer")
    inner_steps: int = Field(
        100, ge=1, le=100_000, description="Optimizer steps that train a student on the synset"
    )
    noise: Noise = Field(
        "none",
        description="Whether students sample their actions while they are cloned; 'published' "
        "draws the noise again in the reverse pass, as the published code does",
    )
    steps: int = Field(300, ge=0, le=10_000_000, description="Number of outer steps")
    batch: int = Field(
        2560,
        ge=1,
        le=1_000_000,
        description="Dataset states per seed in an outer step of the solver",
    )
    smoothing: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Scale of the noise added to the dataset states, in standard deviations of the "
        "data",
    )
    state_source: str = Field(
        "smoothed",
        description="States on which the objective is evaluated: 'data' are those of the dataset, "
        "'smoothed' those with the noise that 'smoothing' sets, and 'imagined' adds states that "
        "cloned students visit in a dynamics model of the data",
    )
    imagined_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Fraction of every batch that imagined states make up once there are any; the "
        "remaining states are smoothed",
    )
    imagined_start: int = Field(
        100, ge=0, le=10_000_000, description="Outer step of the first round of imagined states"
    )
    imagined_interval: int = Field(
        50, ge=1, le=10_000_000, description="Outer steps between two rounds of imagined states"
    )
    imagined_students: int = Field(
        4,
        ge=1,
        le=64,
        description="Students per seed that are cloned in a round of imagined states",
    )
    imagined_starts: int = Field(
        400,
        ge=3,
        le=100_000,
        description="Dataset states from which each of these students starts in the dynamics model",
    )
    imagined_horizon: int = Field(
        200, ge=1, le=10_000, description="Largest number of steps of an imagined trajectory"
    )
    imagined_states: int = Field(
        16_384,
        ge=1,
        le=1_000_000,
        description="Largest number of states of a round of imagined states, drawn uniformly from "
        "those that its students visit",
    )
    imagined_rounds: int = Field(
        4, ge=1, le=100, description="Latest rounds of imagined states that are kept"
    )
    imagined_noise: float = Field(
        0.1,
        ge=0,
        le=10,
        description="Scale of the noise added to imagined states, in standard deviations of the "
        "data",
    )
    kernel_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Fraction of the outer steps that are infinite-width steps; they come first",
    )
    kernel_lr: float = Field(
        0.03, gt=0, le=100, description="Outer learning rate of the infinite-width steps"
    )
    kernel_batch: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Dataset states per seed in an infinite-width or label-solving outer step",
    )
    kernel_start: Literal["zero", "drawn"] = Field(
        "zero",
        description="Output of the untrained student in infinite-width steps: zero, or that of a "
        "newly drawn network",
    )
    exact_interval: int = Field(
        5,
        ge=1,
        le=10_000,
        description="Outer steps of the solver 'corrected' between two exact ones",
    )
    width: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Width of the students of the solver; none keeps the architecture's width",
    )
    draws: int = Field(
        1, ge=1, le=64, description="Students per seed whose gradients an outer step averages"
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="Precision of the factors in the reverse sweep of exact steps, on devices that "
        "have such products; students are cloned in float32 in every case",
    )
    outer_optimizer: Literal["sgd", "adam"] = Field(
        "adam", description="Optimizer that updates the synset"
    )
    outer_lr: float = Field(0.03, gt=0, le=100, description="Outer learning rate of the solver")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="Schedule of the outer learning rate within each phase"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the outer optimizer sgd")
    clip: float | None = Field(
        None, gt=0, description="Bound on the norm of a seed's meta-gradient; none is no bound"
    )
    init: str = Field(
        "random", description="Selection method of the real pairs that the synset starts from"
    )
    init_labels: Literal["data", "teacher"] = Field(
        "data", description="Whose actions label the pairs that the synset starts from"
    )
    solver: str = Field(
        "full",
        description="Method that computes the outer steps after the infinite-width phase; 'full' "
        "is the exact meta-gradient through all inner steps",
    )
    window: int | None = Field(
        None, ge=1, description="Inner steps that a truncated solver differentiates"
    )
    guard_interval: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Outer steps between two checks of real students; if their "
        "missed variance and missed objective both rise, the infinite-width phase ends early; 0 "
        "turns the checks off",
    )
    guard_students: int = Field(
        2, ge=1, le=64, description="Students that each check clones per seed"
    )
    guard_states: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Dataset states, with noise that no outer step draws, on which each check "
        "compares students with their targets",
    )
    guard_max_rise: float = Field(
        0.05,
        ge=0,
        le=1e6,
        description="Rise of missed variance and missed objective above their minima at which a "
        "check counts towards the early end of the infinite-width phase; a result is marked by the "
        "missed variance alone",
    )
    guard_patience: int = Field(
        2,
        ge=1,
        le=10_000_000,
        description="Consecutive checks with a rise above guard_max_rise that end the "
        "infinite-width phase",
    )
    evaluate_at: tuple[float, ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 0.85, 0.9, 0.95, 1.0),
        description="Evaluation points as fractions of the outer steps",
    )

    @model_validator(mode="before")
    @classmethod
    def _parse_none(cls, values: Any) -> Any:
        if not isinstance(values, dict):  # of a file; pydantic refuses it
            return values
        return {name: parse_none(name, value) for name, value in values.items()}

    @model_validator(mode="after")
    def _consistent(self) -> DistillSettings:
        if self.solver in TRUNCATED_SOLVERS and self.window is None:
            raise ValueError(f"the solver {self.solver!r} needs the setting window")
        if self.solver not in TRUNCATED_SOLVERS and self.window is not None:
            raise ValueError(
                f"window has no effect on the solver {self.solver!r}: choose another solver"
            )
        if self.solver == "infinite-width" and self.kernel_share != 1:
            raise ValueError("the solver 'infinite-width' takes all steps: set kernel_share to 1")
        if self.window is not None and self.window > self.inner_steps:
            raise ValueError("window is larger than inner_steps")
        if self.inner_optimizer != "sgd" and (self.kernel_share or self.solver == "corrected"):
            raise ValueError(
                "infinite-width steps need the inner optimizer sgd: set kernel_share to 0 and "
                "another solver than 'corrected'"
            )
        if not self.evaluate_at or any(not 0 <= f <= 1 for f in self.evaluate_at):
            raise ValueError("evaluate_at needs at least one fraction, all between 0 and 1")
        return self

    @property
    def kernel_steps(self) -> int:
        """Number of infinite-width outer steps, which come before the exact ones."""
        return round(self.kernel_share * self.steps)

    @property
    def evaluation_steps(self) -> list[int]:
        """Outer steps after which the synset is evaluated, increasing and without repeats."""
        return sorted({round(fraction * self.steps) for fraction in self.evaluate_at})


def parse_none(name: str, value: Any) -> Any:
    """The value of a setting, which the text ``none`` turns off if it may be turned off."""
    field = DistillSettings.model_fields.get(name)
    optional = field is not None and type(None) in get_args(field.annotation)
    return None if optional and value == "none" else value


SUMMARIES = {
    "fast": "infinite-width steps, checks of real students, exact steps; a minute per seed",
    "thorough": "400 infinite-width and 100 exact steps, imagined states; 2 to 3 minutes per seed",
    "exact": "400 exact steps, smoothed states; four to ten minutes per seed on one core",
    "paper": "the published settings, 20,000 exact steps; four to seven hours per seed on one core",
    "tiny": "four steps on 16 pairs, for tests",
}
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "steps": 420,
        "kernel_share": 0.95,
        "kernel_start": "drawn",
        "outer_lr": 0.02,
        "smoothing": 0.2,
        "guard_interval": 20,
        "evaluate_at": (0.0, 0.5, 0.96, 0.97, 0.98, 0.99, 1.0),
    },
    "thorough": {
        "steps": 500,
        "kernel_share": 0.8,
        "kernel_start": "drawn",
        "outer_lr": 0.02,
        "precision": "bfloat16",
        "state_source": "imagined",
        "smoothing": 0.2,
        "guard_interval": 20,
        "evaluate_at": (0.0, 0.5, 0.96, 0.97, 0.98, 0.99, 1.0),
    },
    "exact": {
        "steps": 400,
        "precision": "bfloat16",
        "smoothing": 0.2,
        "guard_interval": 50,
        "evaluate_at": (0.0, 0.5, 0.96, 0.97, 0.98, 0.99, 1.0),
    },
    "paper": {
        "noise": "published",
        "steps": 20_000,
        "outer_optimizer": "sgd",
        "outer_lr": 0.1,
        "schedule": "constant",
        "momentum": 0.9,
        "clip": 2.0,
        "evaluate_at": tuple(round(0.05 * i, 2) for i in range(21)),
    },
    "tiny": {"pairs": 16, "inner_steps": 10, "steps": 4, "batch": 64, "evaluate_at": (0.0, 1.0)},
}

NAMED = {"solver": solvers, "init": selections, "state_source": state_sources}


def resolve_settings(
    preset: str = "fast", overrides: dict[str, Any] | None = None
) -> DistillSettings:
    """Return the validated settings of a preset with overrides; every error is one line."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    overrides = dict(overrides or {})
    if isinstance(overrides.get("solver"), str):
        solver_defaults = getattr(solvers.get(overrides["solver"]), "default_settings", {})
        overrides = {**solver_defaults, **overrides}
    values = {**PRESETS[preset], **overrides}
    for name in values:
        if name not in DistillSettings.model_fields:
            raise unknown_setting(name)
    for name, registry in NAMED.items():
        if isinstance(values.get(name), str):
            values[name] = registry.resolve_name(values[name])
    try:
        return DistillSettings(**values)
    except ValidationError as error:
        about_points = "evaluate_at" in format_validation_error(error)
        raise InvalidSettingError(
            format_validation_error(error),
            "Write a list, as in evaluate_at=[0, 0.5, 1]."
            if about_points
            else "`obdbench list settings` lists all settings; docs/concepts.md explains them.",
        ) from error


def unknown_setting(name: str) -> UnknownNameError:
    """Make the error for an unknown setting; it says where a parameter of objectives belongs."""
    owners = [known for known in objectives.names() if name in parameters_of(objectives.get(known))]
    if not owners:
        return unknown_name("setting", name, DistillSettings.model_fields)
    return UnknownNameError(
        f"{name!r} is no setting, but a parameter of {', '.join(owners)}.",
        f"Write it after the objective's name, as in '{owners[0]} ({name}=VALUE)'; `obdbench tune` "
        f"takes it as --param {name}=VALUE.",
    )


def describe_settings() -> Iterator[tuple[str, str]]:
    """Yield the name of every setting and one line with its meaning, choices and default."""
    for name, field in DistillSettings.model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        values = f"{', '.join(choices[:-1])} or {choices[-1]}; " if choices else ""
        values += f"default {'none' if default is None else default}"
        yield name, f"{field.description} ({values})"
