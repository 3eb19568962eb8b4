"""Named settings of one's own, beside the built-in presets.

A preset file is ``<folder>/<name>.toml``; the folder is ``presets`` in the working directory, or
``$OBDBENCH_PRESETS``::

    base = "fast"                 # a built-in preset
    summary = "one line"
    [settings]                    # overrides of the base
    outer_lr = 0.02
    [objectives.av-pbc]           # parameters that the preset gives an objective
    beta = 0.05
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obdbench.distillation.settings import (
    PRESETS,
    SUMMARIES,
    DistillSettings,
    format_validation_error,
    resolve_settings,
)
from obdbench.errors import InvalidSettingError, ObdError, unknown_name
from obdbench.io import write_atomically

MAX_TOML = 1024 * 1024


class Preset(BaseModel):
    """Settings with a name: overrides of a built-in preset, and objectives' parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: str = "fast"
    summary: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    def resolve(self, overrides: dict[str, Any]) -> DistillSettings:
        """The settings it stands for, with overrides."""
        return resolve_settings(self.base, {**self.settings, **overrides})


def preset_folder() -> Path:
    """Where preset files lie."""
    return Path(os.environ.get("OBDBENCH_PRESETS", "presets"))


def list_presets() -> list[str]:
    """Built-in presets first, then one's own."""
    own = (
        sorted(path.stem for path in preset_folder().glob("*.toml"))
        if preset_folder().is_dir()
        else []
    )
    return [*PRESETS, *(name for name in own if name not in PRESETS)]


def load_preset(name: str) -> Preset:
    """A preset by name."""
    if name in PRESETS:
        return Preset(name=name, base=name, summary=SUMMARIES[name])
    if name not in list_presets():
        raise unknown_name("preset", name, list_presets())
    path = preset_folder() / f"{name}.toml"
    content = read_toml(path)
    check_keys(path, content, [key for key in Preset.model_fields if key != "name"])
    try:
        preset = Preset(name=name, **content)
    except ValidationError as error:
        raise InvalidSettingError(
            f"{path}: {format_validation_error(error)}", "Mend the preset."
        ) from error
    preset.resolve({})
    return preset


def save_preset(preset: Preset) -> Path:
    """Write a preset file, atomically."""
    check_preset_name(preset.name)
    path = preset_folder() / f"{preset.name}.toml"
    lines = [
        f"base = {format_toml_value(preset.base)}",
        f"summary = {format_toml_value(preset.summary)}",
    ]
    tables = {"settings": preset.settings, "provenance": preset.provenance}
    tables |= {
        f"objectives.{format_toml_value(name)}": params
        for name, params in preset.objectives.items()
    }
    for table, values in tables.items():
        if values:
            lines += ["", f"[{table}]"]
            lines += [f"{key} = {format_toml_value(value)}" for key, value in values.items()]
    write_atomically(path, "\n".join(lines) + "\n")
    return path


def check_preset_name(name: str) -> None:
    """Refuse a name that is no file name, or a built-in preset's."""
    if name in PRESETS or not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidSettingError(
            f"{name!r} cannot name a preset.",
            "Use letters, digits, '-' and '_', and no built-in preset's name.",
        )


def check_new_preset(name: str) -> None:
    """Refuse a name that no new preset can take, a preset file's that is there among them."""
    check_preset_name(name)
    path = preset_folder() / f"{name}.toml"
    if path.exists():
        raise InvalidSettingError(
            f"There is a preset {path} already.", "Give another --name, or remove that file."
        )


def format_toml_value(value: Any) -> str:
    """A scalar or a flat list as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        unsafe = (c in '"\\\x7f' or ord(c) < 32 for c in value)
        escaped = (f"\\u{ord(c):04x}" if u else c for c, u in zip(value, unsafe, strict=True))
        return f'"{"".join(escaped)}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(format_toml_value(item) for item in value)}]"
    raise InvalidSettingError(f"A preset cannot hold {value!r}.", "Use numbers and strings.")


def parse_value(text: str) -> Any:
    """A TOML value, ``none``, or the text itself."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; every complaint is one line."""
    try:
        if path.stat().st_size > MAX_TOML:
            raise InvalidSettingError(
                f"{path} is too large for a settings file.", "Check the path."
            )
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ObdError:
        raise
    except FileNotFoundError as error:
        raise InvalidSettingError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError, RecursionError) as error:  # both decoders raise ValueErrors
        raise InvalidSettingError(f"{path} cannot be read: {error}.", "Mend the file.") from error


def check_keys(path: Path, content: dict[str, Any], known: list[str]) -> None:
    """Answer a misspelt key with the nearest right ones."""
    for key in content:
        if key not in known:
            error = unknown_name("key", key, known)
            raise InvalidSettingError(f"{path}: {error.cause}", error.remedy)
