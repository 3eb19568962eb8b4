"""Presets: settings with a name, built in or read from the user's TOML files.

A preset file is ``<folder>/<name>.toml``. The folder is ``presets`` in the working directory
unless the environment variable ``OBDBENCH_PRESETS`` names another::

    base = "fast"                 # a built-in preset
    summary = "one line"
    [settings]                    # overrides of the base
    outer_lr = 0.02
    [objectives.av-pbc]           # parameters of an objective under this preset
    beta = 0.05
"""

from __future__ import annotations

import json
import logging
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from obdbench.distillation.settings import (
    PRESETS,
    SUMMARIES,
    DistillSettings,
    resolve_settings,
)
from obdbench.errors import (
    InvalidSettingError,
    ObdError,
    translate_validation_error,
    unknown_name,
)
from obdbench.io import write_atomically
from obdbench.registry import objectives

logger = logging.getLogger(__name__)
MAX_TOML = 1024 * 1024


class Preset(BaseModel):
    """A name for overrides of a built-in preset and for parameters of objectives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: str = "fast"
    summary: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)

    def stated_settings(self) -> dict[str, Any]:
        """The settings whose values the preset states; the others keep their defaults."""
        return {**PRESETS[self.base], **self.settings}

    def resolve(self, overrides: dict[str, Any]) -> DistillSettings:
        """Return the settings of the preset with further overrides."""
        return resolve_settings(self.base, {**self.settings, **overrides})


def preset_folder() -> Path:
    """Folder of the user's preset files."""
    return Path(os.environ.get("OBDBENCH_PRESETS", "presets"))


def list_presets() -> list[str]:
    """List the names of the built-in presets, then those of the user's preset files."""
    files = sorted(path.stem for path in preset_folder().glob("*.toml"))
    return [*PRESETS, *(name for name in files if name not in PRESETS)]


def load_preset(name: str) -> Preset:
    """Load a preset by name."""
    if name in PRESETS:
        return Preset(name=name, base=name, summary=SUMMARIES[name])
    if name not in list_presets():
        raise unknown_name("preset", name, list_presets())
    path = preset_folder() / f"{name}.toml"
    content = read_toml(path)
    check_keys(path, content, [key for key in Preset.model_fields if key != "name"])
    with translate_validation_error("Fix the preset file.", f"{path}: "):
        preset = Preset(name=name, **content)
    preset.resolve({})
    return preset.model_copy(update={"objectives": dict(_resolve_objectives(path, preset))})


def _resolve_objectives(path: Path, preset: Preset) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parameters in a preset by the objective's name; a plugin may register it later."""
    for name, params in preset.objectives.items():
        if name in objectives:
            yield objectives.resolve_name(name), params
        else:
            logger.warning(
                "%s has parameters of %r, and no objective has this name. Correct it, or name its "
                "plugin.",
                path,
                name,
            )
            yield name, params


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
    """Raise an error unless the name is a valid file name and not that of a built-in preset."""
    if name in PRESETS or not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidSettingError(
            f"{name!r} is not a valid preset name.",
            "Use letters, digits, '-' and '_', and not the name of a built-in preset.",
        )


def check_new_preset(name: str) -> None:
    """Raise an error unless a new preset can have the name; an existing file is not replaced."""
    check_preset_name(name)
    path = preset_folder() / f"{name}.toml"
    if path.exists():
        raise InvalidSettingError(
            f"The preset {path} already exists.", "Choose another --name, or remove the file."
        )


def format_toml_value(value: Any) -> str:
    """Format a scalar or a list as a TOML value; those of NumPy count as well."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_toml_value, value))}]"
    if isinstance(value, float):
        return repr(value)  # JSON cannot express infinity
    if isinstance(value, bool | int | str):  # JSON escapes what TOML forbids, except DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise InvalidSettingError(
        f"A setting cannot have the value {value!r}.", "Use numbers, strings and lists."
    )


def parse_value(text: str) -> Any:
    """Parse a TOML value or ``null``; any other text stays a text."""
    if text == "null":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; every error message is one line."""
    try:
        if path.stat().st_size > MAX_TOML:
            raise InvalidSettingError(
                f"{path} is larger than {MAX_TOML:,} bytes.", "Check the path."
            )
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ObdError:
        raise
    except FileNotFoundError as error:
        raise InvalidSettingError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError, RecursionError) as error:  # TOML and UTF-8 errors are ValueErrors
        raise InvalidSettingError(f"{path} cannot be read: {error}.", "Fix the file.") from error


def check_keys(path: Path, content: dict[str, Any], known: list[str]) -> None:
    """Raise an error for an unknown key; it suggests similar known keys."""
    for key in content:
        if key not in known:
            error = unknown_name("key", key, known)
            raise InvalidSettingError(f"{path}: {error.cause}", error.remedy)
