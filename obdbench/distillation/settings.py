"""Everything that fixes one distillation but its data, its objective and its seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from obdbench.errors import InvalidSettingError, unknown_name

Noise = Literal["none", "exact", "published"]


class DistillSettings(BaseModel):
    """Settings of the two loops. Presets give them names; every table states which was used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: int = Field(256, ge=1, le=65_536, description="size of the synset")
    architecture: str = Field("mlp4", description="the student's architecture")
    inner_optimizer: Literal["sgd", "sgdm", "adam", "adamw"] = Field(
        "sgd", description="optimizer of cloning"
    )
    inner_lr: float = Field(0.1, gt=0, le=100, description="learning rate of cloning")
    inner_steps: int = Field(100, ge=1, le=100_000, description="steps of cloning")
    noise: Noise = Field("none", description="sampling of the student's action while cloning")
    steps: int = Field(300, ge=0, le=10_000_000, description="outer steps")
    batch: int = Field(2560, ge=1, le=1_000_000, description="dataset states a step")
    smoothing: float = Field(
        0.0, ge=0, le=10, description="noise upon these states, in units of the data's spread"
    )
    kernel_share: float = Field(
        0.0, ge=0, le=1, description="share of the outer steps, the first, at infinite width"
    )
    kernel_lr: float = Field(0.03, gt=0, le=100, description="outer_lr of these steps")
    kernel_batch: int = Field(1024, ge=1, le=1_000_000, description="dataset states of these steps")
    kernel_start: Literal["zero", "drawn"] = Field(
        "zero", description="of these steps, the untrained student: its mean, or a fresh draw"
    )
    width: int | None = Field(
        None, ge=1, le=65_536, description="of the students of exact steps, if not their own"
    )
    draws: int = Field(1, ge=1, le=64, description="random policies averaged in one step")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="of products, on devices that have others than float32"
    )
    outer_optimizer: Literal["sgd", "adam"] = Field("adam", description="optimizer of the synset")
    outer_lr: float = Field(0.03, gt=0, le=100, description="its learning rate")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="of this rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of the outer sgd")
    clip: float | None = Field(None, gt=0, description="bound on the meta-gradient's norm")
    init: Literal["real", "kmeans++", "top-q"] = Field("real", description="pairs to start from")
    solver: Literal["full", "truncated", "random-truncated"] = Field(
        "full", description="of exact steps: all inner steps are differentiated, or a window"
    )
    window: int | None = Field(None, ge=1, description="inner steps kept by a truncated solver")
    evaluate_at: tuple[float, ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 0.85, 0.9, 0.95, 1.0),
        description="evaluation points as fractions of the outer steps",
    )

    @model_validator(mode="after")
    def _consistent(self) -> DistillSettings:
        if self.solver != "full" and self.window is None:
            raise ValueError(f"the solver {self.solver!r} needs a window")
        if self.solver == "full" and self.window is not None:
            raise ValueError("a window is without effect on the solver 'full': choose another")
        if self.window is not None and self.window > self.inner_steps:
            raise ValueError("the window is longer than the inner steps")
        if self.kernel_share and self.inner_optimizer != "sgd":
            raise ValueError("the limit of infinite width is that of sgd: set kernel_share to 0")
        if not self.evaluate_at or any(not 0 <= f <= 1 for f in self.evaluate_at):
            raise ValueError("evaluate_at holds fractions between 0 and 1, at least one")
        return self

    @property
    def kernel_steps(self) -> int:
        """How many of the outer steps, the first ones, are taken at infinite width."""
        return round(self.kernel_share * self.steps)

    @property
    def evaluation_steps(self) -> list[int]:
        """Outer steps at which the synset is kept for scoring, increasing, without repeats."""
        return sorted({round(fraction * self.steps) for fraction in self.evaluate_at})


SUMMARIES = {
    "fast": "this project's: most steps at infinite width, smoothed states; about a minute",
    "paper": "the published settings: 20,000 exact steps; about a day on a CPU",
    "tiny": "four steps on 16 pairs, for tests and first tries",
}
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "steps": 420,
        "kernel_share": 0.95,
        "outer_lr": 0.02,
        "smoothing": 0.2,
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


def resolve_settings(
    preset: str = "fast", overrides: dict[str, Any] | None = None
) -> DistillSettings:
    """A preset with overrides, validated; every complaint is one line."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    values = {**PRESETS[preset], **(overrides or {})}
    for name in values:
        if name not in DistillSettings.model_fields:
            raise unknown_name("setting", name, DistillSettings.model_fields)
    try:
        return DistillSettings(**values)
    except ValidationError as error:
        about_points = "evaluate_at" in format_validation_error(error)
        raise InvalidSettingError(
            format_validation_error(error),
            "Write a list, as in evaluate_at=[0, 0.5, 1]."
            if about_points
            else "`obdbench list settings` says what there is; docs/concepts.md explains it.",
        ) from error


def describe_settings() -> Iterator[tuple[str, str]]:
    """Every setting and, in a line, what it is, what it may be and what it is by default."""
    for name, field in DistillSettings.model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        held = f"{', '.join(choices[:-1])} or {choices[-1]}; " if choices else ""
        held += f"default {'none' if default is None else default}"
        yield name, f"{field.description} ({held})"


def format_validation_error(error: ValidationError) -> str:
    """The first of pydantic's complaints, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    shown = repr(first["input"])
    got = f", got {shown if len(shown) <= 80 else shown[:77] + '...'}" if where else ""
    return f"{where + ': ' if where else ''}{first['msg']}{got}."
